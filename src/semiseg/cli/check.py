"""The command `semiseg check`; its docstring is its help."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from semiseg.config.options import DataOptions
from semiseg.runtime.screen import printable

SHEET = "check.png"


def check(
    data: Path,
    /,
    *,
    out: Path = Path("semiseg-check"),
    fix: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    labeled: Annotated[str | None, Parameter(name="--data.labeled")] = None,
    val: Annotated[str | None, Parameter(name="--data.val")] = None,
) -> int:
    """Look into a folder of images and masks before training on it.

    Tells sizes, bands, classes and how the images will be split, draws the masks over the photographs, and names what
    is wrong, file by file, with the repair. The exit status is 0 where all is well, 1 with warnings, and 2 where it
    cannot be trained on.

    Parameters
    ----------
    data
        The folder: images/ with masks/ (or labels/, annotations/, gt/), NAME.jpg with NAME_mask.png or NAME.png, or
        train/ and val/ with such; unlabeled/ beside them.
    out
        Folder for the contact sheet, check.png.
    fix
        Write classes.txt or data.yaml where that is the repair. Pictures stay as they are, and a file that was there
        is kept under another name.
    as_json
        Print all of it as JSON, and nothing else.
    labeled
        List file of the labelled images. Default: those with masks.
    val
        List file of the validation images. Default: val.txt or val/, else a seeded part of the masks.
    """
    from semiseg.data.doctor.examination import Finding
    from semiseg.data.doctor.examine import examine, repair

    options = DataOptions(root=data, labeled=labeled, val=val)
    done = repair(options) if fix else []
    found = examine(options)
    sheet = None
    if found.exit_code < 2:
        from semiseg.report.contact_sheet import write_contact_sheet

        try:
            sheet = write_contact_sheet(found, out / SHEET)
        except ValueError as error:  # training would meet it, too
            refusal = Finding("cannot-train", "error", str(error))
            found = replace(found, findings=(refusal, *found.findings))
    if as_json:
        document = found.to_dict() | {"contact_sheet": None if sheet is None else str(sheet), "fixed": done}
        print(json.dumps(document, indent=2, ensure_ascii=True))
        return found.exit_code
    lines = [*done, *found.table()]
    for finding in found.findings:
        lines.append(f"{finding.level}: {finding.words}")
        lines += [] if finding.fix is None else [f"    --fix {finding.fix}"]
    lines += [] if sheet is None else [f"masks over photographs: {sheet}"]
    lines.append(_VERDICTS[found.exit_code])
    print(*map(printable, lines), sep="\n")
    return found.exit_code


_VERDICTS = (
    "nothing is wrong",
    "it can be trained on; the warnings may explain a poor score",
    "it cannot be trained on as it is",
)
