"""The page served while runs are going: on loopback, one page, nothing else."""

from __future__ import annotations

import http.client
import shutil
import threading

import pytest
from record_factory import write_record

from benchmarks.report.watch import LOOPBACK, PageServer
from tasks.errors import BadInput


@pytest.fixture
def served(tmp_path):
    """A server on a folder with one running run, and what asks it for a path."""
    write_record(tmp_path, algo="first", status="running")
    with PageServer(lambda: tmp_path, port=0, refresh_s=1) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def ask(path, host=None, method="GET"):
            connection = http.client.HTTPConnection(LOOPBACK, server.server_address[1], timeout=60)
            connection.request(method, path, headers={"Host": host} if host else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

        yield server, ask
        server.shutdown()
        thread.join()


def test_it_shows_what_runs_and_asks_to_be_loaded_again(served, tmp_path):
    server, ask = served
    status, page = ask("/")
    assert status == 200
    assert '<meta http-equiv="refresh" content="1">' in page
    assert "first-wordle-tiny-s0" in page
    write_record(tmp_path, algo="second", status="failed")
    server._made = -float("inf")  # The second is over.
    assert "second-wordle-tiny-s0" in ask("/")[1]


def test_a_folder_that_is_gone_or_of_which_nothing_can_be_used_leaves_the_page_before(served, tmp_path, capsys):
    server, ask = served
    page = ask("/")[1]
    record = next(path for path in tmp_path.iterdir() if path.is_dir())
    (record / "config.json").write_bytes(b"{")
    server._made = -float("inf")
    assert ask("/") == (200, page)
    shutil.rmtree(tmp_path)
    server._made = -float("inf")
    assert ask("/") == (200, page)
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["not refreshed", "not refreshed"]
    server._page = b""
    server._made = -float("inf")
    assert ask("/")[0] == 503


def test_it_listens_on_loopback_only(served):
    server, _ = served
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("path", ["/status", "/../status", "/first-wordle-tiny-s0-e0e0e0e0e0/manifest.json", "/?x"])
def test_no_file_can_be_asked_for(served, path):
    _, ask = served
    status, page = ask(path)
    assert status == 404
    assert "first" not in page


def test_a_foreign_host_name_that_points_here_gets_nothing(served):
    _, ask = served
    status, page = ask("/", host="evil.example")
    assert status == 421
    assert "first-wordle" not in page


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(served, method):
    assert served[1]("/", method=method)[0] == 501


def test_a_wrong_folder_or_a_taken_port_is_the_users_mistake(served, tmp_path):
    server, _ = served
    with pytest.raises(BadInput, match="no such results folder"):
        PageServer(lambda: tmp_path / "nowhere", 0, 30)
    with pytest.raises(BadInput, match="cannot listen"):
        PageServer(lambda: tmp_path, server.server_address[1], 30)
    with pytest.raises(BadInput, match="--refresh 0"):
        PageServer(lambda: tmp_path, 0, 0)
