"""Warm starts shared through a store: the first machine to finish one decides, and all others start from its weights.

    .warmstarts/<hash>/<token>/<file>   what a machine made
    .warmstarts/<hash>/chosen           the token of the one that counts, created once

Two machines that make the same warm start at once waste the second one's time; no run starts from a mixture.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.records.mirror import NAME, refuse_unfit
from benchmarks.records.store import Store, StoreAway

FOLDER = ".warmstarts"
TOKEN = re.compile(r"[0-9a-f]{16}")
MOST_FILES = 100


def settle_warm_start(url: str, folder: Path, make: Callable[[], None]) -> bool:
    """Have the store's warm start in a folder; where there is none, the one that is there, or a new one, becomes it.

    Args:
        url: of the store.
        folder: named by the hash of all that decides what is in it; the caller has locked it.
        make: makes it, the folder and all.

    Returns:
        Whether what counts was made just now.

    Raises:
        StoreAway: the store does not answer, or what it has is no warm start.
        BadInput: there is too little room.
    """
    store, key, mark = Store(url), f"{FOLDER}/{folder.name}", folder.with_suffix(".chosen")
    chosen, made = _chosen(store, key), False
    if chosen is None:
        if not folder.exists():
            make()
            made = True
        token = os.urandom(8).hex()
        for path in sorted(folder.iterdir()):
            store.upload(f"{key}/{token}/{path.name}", path)
        store.create(f"{key}/chosen", token.encode())
        chosen = _chosen(store, key)
        if chosen == token:
            mark.write_text(token)
            return made
        store.remove([f"{key}/{token}/{path.name}" for path in folder.iterdir()])
    if chosen is None:
        raise StoreAway(f"{store.url}: {key}/chosen is not there as it was put")
    if not folder.exists() or not mark.exists() or mark.read_text() != chosen:
        _fetch(store, f"{key}/{chosen}", folder)
        mark.write_text(chosen)
    return False


def _chosen(store: Store, key: str) -> str | None:
    """The token of the warm start that counts; None where there is none yet.

    Raises:
        StoreAway: there is one that nobody here has written.
    """
    try:
        token = store.read(f"{key}/chosen", 100).decode(errors="replace")
    except FileNotFoundError:
        return None
    if not TOKEN.fullmatch(token):
        raise StoreAway(f"{store.url}: {key}/chosen is no token of a warm start; remove it")
    return token


def _fetch(store: Store, key: str, folder: Path) -> None:
    listed = store.list(key)
    names = {each: each.removeprefix(f"{key}/") for each in listed}
    if not names or len(names) > MOST_FILES or not all(NAME.fullmatch(name) for name in names.values()):
        raise StoreAway(f"{store.url}: {key} holds no warm start; remove {key.rpartition('/')[0]}/chosen")
    refuse_unfit(folder.parent, sum(entry.size for entry in listed.values()), store.url)
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for each, name in names.items():
        store.download(each, unfinished / name)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
