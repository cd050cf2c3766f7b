"""``corelock doctor``."""

from __future__ import annotations

from contextlib import closing
from typing import Optional

import click

from corelock.checks import doctor
from corelock.cli.options import btf_option, json_option, output_option
from corelock.cli.run import Output


@click.command("doctor")
@json_option()
@output_option
@btf_option
def command(json: bool, output: Optional[str], btf: Optional[str]) -> None:
    """Whether hold-times works on this host, what is in its way, and what it costs.

    Looks at the kernel and at what this user may do, and traces itself for a
    moment. Exits with 0 if hold-times would work, with 1 if not.
    """
    with closing(Output(output)) as out:
        diagnosis = doctor(btf=btf)
        with out.writing() as stream:
            if json:
                from corelock.export.doctor import write_doctor_json

                write_doctor_json(stream, diagnosis)
            else:
                from corelock.render.doctor import render_doctor

                render_doctor(diagnosis, stream)
    if not diagnosis.works:
        raise click.exceptions.Exit(1)
