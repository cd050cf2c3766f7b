// What the page carries: small facts as JSON, the rest compressed (columns.py).

const ARRAYS = {
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  int32: Int32Array,
  float64: Float64Array,
};

/** The facts that stand in the page as JSON. */
function readFacts() {
  return JSON.parse(document.getElementById("facts").textContent);
}

/** The parts of the payload by name: typed arrays, and what was JSON. */
async function readPayload(directory) {
  const text = atob(document.getElementById("payload").textContent.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const parts = {};
  for (const [name, [type, offset, length]] of Object.entries(directory)) {
    parts[name] =
      type === "json"
        ? JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, offset, length)))
        : new ARRAYS[type](buffer, offset, length);
  }
  return parts;
}
