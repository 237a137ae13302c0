"""Annotation files in the shape of the originals, and how tests read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rratag.data.labels import LabelSet, from_file

Row = tuple[str, str | None, float | None, float | None, str]


def save(path: Path, content: str | bytes | list[Any] | dict[str, Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    if isinstance(content, (list, dict)):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(found: LabelSet) -> list[Row]:
    return [(one.video, one.label, one.start_s, one.end_s, one.split) for one in found.instances]


def read(path: Path, *ids: str, **options: Any) -> LabelSet:
    return from_file(path, {video: f"key of {video}" for video in ids}, **options)


ACTIVITYNET: dict[str, Any] = {
    "version": "VERSION 1.3",
    "taxonomy": [{"parentName": "Root", "nodeName": "Surfing", "nodeId": 1, "parentId": 0}],
    "database": {
        "QOlSCBRmfWY": {
            "duration": 82.73,
            "subset": "training",
            "resolution": "426x320",
            "url": "https://www.youtube.com/watch?v=QOlSCBRmfWY",
            "annotations": [
                {"segment": [6.195294851794072, 40], "label": "Baton twirling"},
                {"segment": [55.5, 70.25], "label": "Putting in contact lenses"},
                {"segment": [6.195294851794072, 40], "label": "Surfing"},
                {"segment": [6.195294851794072, 40], "label": "Surfing"},
            ],
        },
        "v_v8IbzVjGr": {"subset": "validation", "annotations": [{"segment": [0, 3.5], "label": " Surfing "}]},
        "blockedVid_": {"subset": "validation", "annotations": [{"segment": [0.0, 1.0], "label": "Surfing"}]},
        "-estingVid0": {"subset": "testing", "annotations": []},
        "reversed_id": {"subset": "training", "annotations": [{"segment": [9.5, 9.5], "label": "Surfing"}]},
    },
}


KINETICS = (
    "label,youtube_id,time_start,time_end,split,is_cc\n"
    "testifying,---QUuC4vJs,84,94,train,0\n"
    '"eating spaghetti, fast",--3ouPhoy2A,20,30,train,0\n'
    "massaging person's head,_ab-cdEFgh1,000005,000015,val,1\n"
    "testifying,whole000000,12,22,train,0\n"
    "abseiling,whole000000,300,310,train,0\n"
    "abseiling,gone0000000,3,13,train,0\n"
)
CLIPS = (
    "testifying/---QUuC4vJs_000084_000094.mp4",
    "eating_spaghetti/--3ouPhoy2A_000020_000030.mp4",
    "_ab-cdEFgh1_000005_000015.webm",
    "raw/whole000000.mkv",
    "gone0000000_000004_000014.mp4",
)


SOMETHING = [
    {
        "id": "78687",
        "label": "holding potato next to vicks vaporub bottle",
        "template": "Holding [something] next to [something]",
        "placeholders": ["potato", "vicks vaporub bottle"],
    },
    {"id": "42326", "label": "x", "template": "Showing that [something] is empty", "placeholders": ["bowl"]},
]


def ucf(folder: Path) -> Path:
    save(folder / "classInd.txt", "1 ApplyEyeMakeup\r\n37 HandstandPushups\r\n")
    save(folder / "testlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\r\n")
    save(folder / "trainlist02.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1\r\n")
    return save(
        folder / "trainlist01.txt",
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nHandstandPushups/v_HandStandPushups_g25_c07.avi 37\r\n",
    )
