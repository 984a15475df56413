"""What every place for a study's files has to do; a test class for each kind inherits it.

The class gives the fixture `store`, empty and used by no other test.
"""

import io
import threading
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study.store import Store, open_store


class StoreContract:
    def test_content_is_read_back(self, store: Store) -> None:
        for content in (b"", b"one\ntwo\r\n", bytes(range(256)) * 100):
            store.write("folder/deeper/file.bin", content)
            assert store.read("folder/deeper/file.bin") == content

    def test_a_view_of_a_buffer_is_written(self, store: Store) -> None:
        buffer = io.BytesIO(b"content")
        with buffer.getbuffer() as view:
            store.write("file", view)
        assert store.read("file") == b"content"

    def test_a_file_larger_than_a_part_of_an_upload_is_whole(self, store: Store) -> None:
        content = np.random.default_rng(0).bytes(23 * 2**20)
        store.write("large", content)
        assert store.read("large") == content

    def test_a_missing_file_is_a_file_not_found(self, store: Store) -> None:
        for ask in (store.read, store.open):
            with pytest.raises(FileNotFoundError):
                ask("absent/file")  # type: ignore[operator]
        assert not store.exists("absent/file")

    def test_names_are_those_of_the_files_of_one_folder(self, store: Store) -> None:
        for name in ("b/2", "b/1", "b/.hidden", "b/c/3", "bb/4", "5"):
            store.write(name, b"x")
        assert store.names("b") == [".hidden", "1", "2"]
        assert store.names("") == ["5"]
        assert store.names("absent") == []

    def test_only_a_file_exists(self, store: Store) -> None:
        store.write("folder/file", b"")
        assert store.exists("folder/file")
        assert not store.exists("folder")
        assert not store.exists("folder/fil")

    def test_deleting_leaves_the_others(self, store: Store) -> None:
        for name in ("a/1", "a/2", "a/b/3", "ab/4"):
            store.write(name, b"x")
        store.delete("a/1")
        assert store.names("a") == ["2"]
        store.delete_folder("a")
        assert store.names("a") == store.names("a/b") == []
        assert store.names("ab") == ["4"]

    def test_what_is_absent_can_be_deleted(self, store: Store) -> None:
        store.delete("absent")
        store.delete("absent/file")
        store.delete_folder("absent")

    def test_a_file_that_cannot_be_made_up_is_not_written(self, store: Store) -> None:
        def write(file: BinaryIO) -> None:
            file.write(b"a part")
            raise RuntimeError("no more")

        store.write("kept", b"old")
        for name in ("new", "kept"):
            with pytest.raises(RuntimeError, match="no more"):
                store.write_with(name, write)
        assert store.names("") == ["kept"]
        assert store.read("kept") == b"old"

    def test_a_reader_sees_the_old_file_or_the_new_one(self, store: Store) -> None:
        contents = [bytes([index]) * 300_000 for index in range(2)]
        store.write("file", contents[0])
        done = threading.Event()

        def write() -> None:
            for round_ in range(20):
                store.write("file", contents[round_ % 2])
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        seen = [store.read("file") for _ in iter(done.is_set, True)]
        writer.join()
        assert all(content in contents for content in seen)
        assert store.names("") == ["file"]

    def test_tables_and_arrays_are_read_in_place(self, store: Store) -> None:
        table = pa.table({"x": list(range(1000))})
        store.write_with("table.parquet", lambda file: pq.write_table(table, file))
        with store.open("table.parquet") as file:
            assert pq.read_table(file).equals(table)
        store.write_with("arrays.npz", lambda file: np.savez(file, a=np.arange(5)))
        with store.open("arrays.npz") as file, np.load(file) as arrays:
            assert arrays["a"].tolist() == [0, 1, 2, 3, 4]

    def test_the_check_leaves_no_trace(self, store: Store) -> None:
        store.check()
        assert store.names("") == []

    def test_the_same_place_is_opened_again(self, store: Store) -> None:
        store.write("folder/file", b"here")
        assert open_store(store.location, patient=True).read("folder/file") == b"here"
        path, separator, query = store.location.partition("?")
        again = open_store(f"{path}/{separator}{query}")
        assert again.names("folder") == ["file"]
        assert again.place("file") == store.place("file")

    def test_names_may_hold_what_users_write(self, store: Store) -> None:
        for name in ("a b", "ü", "x=1&y#2", "100 %"):
            store.write(f"folder/{name}", name.encode())
        assert store.names("folder") == sorted(["a b", "ü", "x=1&y#2", "100 %"])
        assert store.read("folder/x=1&y#2") == b"x=1&y#2"
