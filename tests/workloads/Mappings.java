/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/**
 * Mappings FILE ROUNDS: a JVM that maps a file, unmaps it again as garbage, starts threads,
 * and commits memory. By the handshake of workload.h.
 */
public class Mappings {
	static FileChannel channel;
	static long sum;

	static void mapOnce() throws Exception {
		sum += channel.map(FileChannel.MapMode.READ_ONLY, 0, 4096).get(0);
	}

	static void commit() {
		sum += ByteBuffer.allocateDirect(1 << 20).put(0, (byte)1).get(0);
	}

	static void startThread() throws Exception {
		Thread thread = new Thread(() -> sum++);
		thread.start();
		thread.join();
	}

	static void load(int rounds) throws Exception {
		for (int i = 0; i < rounds; i++) {
			mapOnce();
			if (i % 100 == 0) {
				commit();
				startThread();
			}
			if (i % 1000 == 0)
				System.gc();
		}
	}

	static void awaitLine() throws Exception {
		int c;
		while ((c = System.in.read()) != '\n' && c >= 0)
			;
	}

	public static void main(String[] arguments) throws Exception {
		int rounds = Integer.parseInt(arguments[1]);

		channel = FileChannel.open(Path.of(arguments[0]), StandardOpenOption.READ);
		/* Often enough for the compiler to take it on. */
		load(20000);
		System.out.println("ready " + ProcessHandle.current().pid());
		awaitLine();
		load(rounds);
		System.out.println("done");
		awaitLine();
	}
}
