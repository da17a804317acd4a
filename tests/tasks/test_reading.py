"""Files of real data: where they are found, what each form gives, what damage says."""

import bz2
import gzip
import hashlib
import http.server
import io
import itertools
import re
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest

from grok_jax.settings import SettingError, schema
from grok_jax.tasks import files
from grok_jax.tasks.imdb import imdb
from grok_jax.tasks.mnist import mnist
from grok_jax.tasks.modular import modular_embedded
from grok_jax.tasks.qm9 import qm9

MAKERS = {"mnist": mnist, "imdb": imdb, "qm9": qm9}
MANY_BYTES = np.random.default_rng(0).integers(0, 256, 40_000, np.uint8).tobytes()


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders for `GROK_JAX_DATA` and the cache, both empty; no package has data."""
    shared, cache = tmp_path / "shared", tmp_path / "cache"
    shared.mkdir()
    cache.mkdir()
    monkeypatch.setenv("GROK_JAX_DATA", str(shared))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(files, "_packaged", lambda *_: [])
    return shared, cache / "grok_jax"


def refused(call, *says):
    """`call` must raise DataError with one sentence that says all of this."""
    with pytest.raises(files.DataError) as caught:
        call()
    message = str(caught.value)
    for part in says:
        assert part in message, message
    assert message.endswith(".") and ". " not in message and "\n" not in message
    return message


def put(folder, name, content=b""):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], strict=True)


# what every data set has in common


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_read_are_settings_of_the_task(name):
    read, made = schema(getattr(files, name)), schema(MAKERS[name])
    assert "files" not in made and "folder" in read
    assert {key: made[key] for key in read} == read


def test_importing_the_reader_imports_no_library_of_data():
    code = (
        "import sys, grok_jax.tasks.files\n"
        "heavy = {'jax', 'rdkit', 'pooch', 'mlxtend', 'qm9pack', 'pandas'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def review_table(count):
    return "review,sentiment\n" + "".join(
        f"word{'x' * i},positive\n" for i in range(count)
    )


def test_the_named_folder_comes_first_then_the_shared_one_then_the_cache(
    places, tmp_path
):
    shared, cache = places
    found = []
    for folder, count in ((cache / "imdb", 1), (shared / "imdb", 2)):
        put(folder, "IMDB Dataset.csv", review_table(count))
        found.append(len(files.imdb()["positive"]))
    own = tmp_path / "own"
    put(own, "any.csv", review_table(3))
    found.append(len(files.imdb(folder=str(own))["positive"]))
    assert found == [1, 2, 3]


def test_a_shared_folder_without_the_data_set_is_passed_over(places):
    shared, cache = places
    put(shared / "imdb", "notes.txt")
    put(cache / "imdb", "table.csv", review_table(4))
    assert len(files.imdb()["positive"]) == 4


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.cache("qm9") == tmp_path / ".cache" / "grok_jax" / "qm9"


@pytest.mark.parametrize("name", MAKERS)
def test_without_data_the_sentence_says_what_to_put_where(name, places):
    _, cache = places
    says = (str(cache / name), f"files.fetch('{name}')", "task.folder")
    refused(getattr(files, name), *says)


@pytest.mark.parametrize("name", MAKERS)
def test_a_folder_without_the_data_set_is_named(name, places, tmp_path):
    put(tmp_path / "wrong", "notes.txt")
    read = getattr(files, name)
    refused(lambda: read(folder=str(tmp_path / "wrong")), "wrong, which does not have")
    refused(lambda: read(folder=str(tmp_path / "no")), "task.folder is", "not a folder")


def test_a_shared_folder_that_is_not_there_is_named(places, monkeypatch):
    monkeypatch.setenv("GROK_JAX_DATA", "/no/such/place")
    refused(files.mnist, "GROK_JAX_DATA is /no/such/place", "not a folder")


# downloads


@pytest.fixture
def server(monkeypatch):
    """(address, served: name -> bytes, asked: names in turn) of a server of files."""
    served, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip("/")
            asked.append(name)
            self.send_response(200 if name in served else 404)
            self.end_headers()
            self.wfile.write(served.get(name, b""))

        def log_message(self, *_):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(
            target=running.serve_forever, args=(0.02,), daemon=True
        ).start()
        yield f"http://127.0.0.1:{running.server_port}/", served, asked
        running.shutdown()


@pytest.fixture
def served_reviews(server, places, monkeypatch):
    """The IMDb table behind an address; returns (served, asked, cache folder)."""
    address, served, asked = server
    table = review_table(5).encode()
    served["table.csv"] = table
    digest = f"sha256:{hashlib.sha256(table).hexdigest()}"
    download = files.Download(address + "table.csv", digest, "table.csv")
    monkeypatch.setitem(files.DOWNLOADS, "imdb", (download,))
    return served, asked, places[1] / "imdb"


def test_a_download_goes_into_the_cache_and_is_made_once(served_reviews):
    _, asked, cache = served_reviews
    assert files.fetch("imdb") == files.fetch("imdb") == cache
    assert asked == ["table.csv"]
    assert len(files.imdb()["positive"]) == 5


def test_a_download_with_another_hash_is_not_kept(served_reviews):
    served, _, cache = served_reviews
    served["table.csv"] += b"word,negative\n"
    refused(lambda: files.fetch("imdb"), "table.csv", "sha256")
    assert not list(cache.glob("*"))


def test_a_download_that_fails_is_one_sentence(served_reviews):
    served, _, cache = served_reviews
    served.clear()
    refused(lambda: files.fetch("imdb"), "could not be downloaded", "404")
    assert not list(cache.glob("*"))


def test_a_download_needs_a_known_name_and_pooch(monkeypatch):
    with pytest.raises(SettingError, match="data set 'mnst'; nearest: mnist"):
        files.fetch("mnst")
    monkeypatch.setitem(sys.modules, "pooch", None)
    refused(lambda: files.fetch("mnist"), "pip install 'grok_jax[data]'")


def test_every_download_is_encrypted_and_has_a_whole_hash():
    assert files.DOWNLOADS.keys() == MAKERS.keys()
    for url, known_hash, _ in itertools.chain(*files.DOWNLOADS.values()):
        assert url.startswith("https://")
        assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", known_hash)


# MNIST

IMAGES = np.arange(5 * 6, dtype=np.uint8).reshape(5, 2, 3)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)
DIGITS = {
    "images": IMAGES.reshape(5, 6),
    "labels": LABELS,
    "test_images": IMAGES[:2].reshape(2, 6) + 100,
    "test_labels": LABELS[:2],
}


def idx(values, *, magic=None):
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return (magic or bytes((0, 0, 8, values.ndim))) + sizes + values.tobytes()


def put_idx(folder, separator="-", suffix="", **changed):
    contents = {
        "train-images": idx(IMAGES),
        "train-labels": idx(LABELS),
        "t10k-images": idx(IMAGES[:2] + 100),
        "t10k-labels": idx(LABELS[:2]),
        **{name.replace("_", "-"): content for name, content in changed.items()},
    }
    for name, content in contents.items():
        if content is not None:
            dimensions = 3 if name.endswith("images") else 1
            full = f"{name}{separator}idx{dimensions}-ubyte{suffix}"
            put(folder, full, gzip.compress(content) if suffix else content)
    return str(folder)


def put_npz(folder, **changed):
    arrays = {
        "x_train": IMAGES,
        "y_train": LABELS,
        "x_test": IMAGES[:2] + 100,
        "y_test": LABELS[:2],
        **changed,
    }
    folder.mkdir(exist_ok=True)
    kept = {name: array for name, array in arrays.items() if array is not None}
    np.savez(folder / "mnist.npz", **kept)
    return str(folder)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("separator", ["-", "."])
def test_idx_files_of_every_spelling_give_the_same_digits(separator, suffix, tmp_path):
    assert_same(files.mnist(folder=put_idx(tmp_path, separator, suffix)), DIGITS)


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_the_npz_of_keras_gives_the_same_digits(kind, tmp_path):
    folder = put_npz(tmp_path, y_train=LABELS.astype(kind))
    assert_same(files.mnist(folder=folder), DIGITS)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"train_images": None}, "lacks train-images-idx3-ubyte"),
        ({"train_images": idx(IMAGES)[:-1]}, "29 bytes of data where its header ann"),
        ({"train_images": idx(IMAGES) + b"x"}, "31 bytes of data where its header ann"),
        ({"t10k_labels": idx(LABELS)[:6]}, "t10k-labels-idx1-ubyte ends within its he"),
        (
            {"t10k_labels": b""},
            "begins with nothing instead of the magic number 00000801",
        ),
        (
            {"train_labels": idx(LABELS, magic=b"\0\0\x0d\1")},
            "begins with 00000d01 inst",
        ),
        ({"train_labels": idx(IMAGES)}, "begins with 00000803 instead of the magic"),
        ({"train_labels": idx(LABELS[:4])}, "has 5 images but 4 labels"),
        ({"train_labels": idx(LABELS + 5)}, "labels that are no digits from 0 to 9"),
        (
            {"t10k_images": idx(IMAGES[:2, :, :2])},
            "images of shape (2, 3) to train on and (2, 2) to",
        ),
        ({"t10k_images": idx(IMAGES[:0]), "t10k_labels": idx(LABELS[:0])}, "no images"),
    ],
)
def test_damaged_idx_files_say_what_is_wrong(changed, says, tmp_path):
    folder = put_idx(tmp_path, **changed)
    refused(lambda: files.mnist(folder=folder), says)


def test_a_compressed_file_that_is_cut_short_or_not_compressed_is_named(tmp_path):
    folder = put_idx(tmp_path, suffix=".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    refused(lambda: files.mnist(folder=folder), str(path), "could not be read")
    path.write_bytes(idx(IMAGES))
    refused(lambda: files.mnist(folder=folder), str(path), "could not be read")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"y_test": None}, "has no array 'y_test'"),
        ({"x_train": IMAGES / 255}, "images of type float64"),
        ({"y_train": LABELS[:, None]}, "labels of shape (5, 1)"),
        ({"y_train": LABELS[:3]}, "has 5 images but 3 labels"),
        ({"y_train": LABELS.astype(np.int64) - 2}, "labels that are no digits"),
    ],
)
def test_a_damaged_npz_says_what_is_wrong(changed, says, tmp_path):
    folder = put_npz(tmp_path, **changed)
    refused(lambda: files.mnist(folder=folder), "mnist.npz", says)


def test_an_npz_that_is_cut_short_or_none_is_named(tmp_path):
    folder = put_npz(tmp_path)
    path = tmp_path / "mnist.npz"
    whole = path.read_bytes()
    array = io.BytesIO()
    np.save(array, IMAGES)
    for content in (whole[: len(whole) // 2], b"", b"no archive", array.getvalue()):
        path.write_bytes(content)
        refused(lambda: files.mnist(folder=folder), str(path), "is no .npz archive")
    path.write_bytes(whole.replace(IMAGES.tobytes(), IMAGES.tobytes()[::-1]))
    refused(lambda: files.mnist(folder=folder), str(path), "could not be read (Bad CRC")


class Trap:
    """Loading it from a pickle would leave a trace."""

    sprung = False

    def __reduce__(self):
        return (setattr, (Trap, "sprung", True))


def test_nothing_pickled_is_loaded(tmp_path):
    folder = put_npz(tmp_path, x_train=np.array([Trap()], object))
    refused(lambda: files.mnist(folder=folder), "mnist.npz could not be read")
    assert not Trap.sprung


def test_the_packaged_digits_are_five_hundred_of_each(monkeypatch, tmp_path):
    monkeypatch.delenv("GROK_JAX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = files.mnist()
    assert found["images"].shape == (5000, 784) and found["images"].dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(found["labels"]), np.full(10, 500))
    assert found["test_images"].shape == (0, 784) and len(found["test_labels"]) == 0


# IMDb

REVIEWS = [
    ('A well-made film,<br /><br />not the "BEST" of 1999!', "positive"),
    ("Dull. Don't watch it; dull dull film\nwith <BR> music", "negative"),
    ("It was not the one", "negative"),  # nothing but stop words
    ("Café music_video <i>film</i>", "positive"),
]
WORDS = [
    ["wellmade", "film", "best"],
    ["dull", "dont", "watch", "dull", "dull", "film", "music"],
    [],
    ["café", "music_video", "ifilmi"],
]


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


TABLE = "review,sentiment\r\n" + "".join(
    f"{quoted(review)},{sentiment}\r\n" for review, sentiment in REVIEWS
)


def words_of(found):
    """The numbered words of each review, with the words themselves forgotten."""
    bounds = [*found["starts"], len(found["words"])]
    return [found["words"][a:b].tolist() for a, b in itertools.pairwise(bounds)]


def numbered(reviews):
    number = {}
    return [[number.setdefault(word, len(number)) for word in r] for r in reviews]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_reviews_become_numbers_of_words(suffix, encoding, tmp_path):
    content = TABLE.encode(encoding)
    name = f"IMDB Dataset.csv{suffix}"
    put(tmp_path, name, gzip.compress(content) if suffix else content)
    found = files.imdb(folder=str(tmp_path))
    assert words_of(found) == numbered(WORDS)
    np.testing.assert_array_equal(found["positive"], [1, 0, 0, 1])
    np.testing.assert_array_equal(found["review"], [0] * 3 + [1] * 7 + [3] * 3)
    assert found["total"].tolist() == [1, 2, 1, 3, 1, 1, 1, 1, 1, 1]


def test_stop_words_are_words_as_they_are_compared():
    assert len(files.STOP_WORDS) > 150
    for word in files.STOP_WORDS:
        assert files._split_words(word) == [word]


def review_files():
    """name -> text of the official folder, with what is to be passed over."""
    named, count = {}, itertools.count()
    for review, sentiment in REVIEWS:
        split = "train" if len(named) % 2 else "test"
        named[f"aclImdb/{split}/{sentiment[:3]}/{next(count)}_7.txt"] = review
    named["aclImdb/train/unsup/0_0.txt"] = "unlabelled text"
    named["aclImdb/train/labeledBow.feat"] = "9 0:9"
    named["aclImdb/README"] = "Large Movie Review Dataset"
    return named


@pytest.mark.parametrize("inside", [False, True])
def test_the_official_folder_is_read_in_the_order_of_its_names(inside, tmp_path):
    for name, text in review_files().items():
        put(tmp_path, name, text)
    found = files.imdb(folder=str(tmp_path / "aclImdb" if inside else tmp_path))
    order = [1, 3, 2, 0]  # train/neg, train/pos, test/neg, test/pos
    assert words_of(found) == numbered([WORDS[i] for i in order])
    np.testing.assert_array_equal(found["positive"], [0, 1, 0, 1])


def tar_of(named, mode):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode=f"w:{mode}") as archive:
        for name, text in named.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return raw.getvalue()


def test_the_official_archive_is_read_where_it_lies(tmp_path):
    put(tmp_path, "aclImdb_v1.tar.gz", tar_of(review_files(), "gz"))
    found = files.imdb(folder=str(tmp_path))
    assert words_of(found) == numbered(WORDS)
    np.testing.assert_array_equal(found["positive"], [1, 0, 0, 1])
    assert [path.name for path in tmp_path.iterdir()] == ["aclImdb_v1.tar.gz"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            TABLE.replace("review", "text", 1),
            "has no column 'review', only 'text', 'sen",
        ),
        ("", "has no column 'review', only an empty first line"),
        (TABLE.replace("negative", "bad", 1), "line 4 has the sentiment 'bad'"),
        (TABLE + "a film\r\n", "line 7 has too few columns"),
        ("review,sentiment\n", "has no reviews"),
        (TABLE.encode("latin-1"), "could not be read ('utf-8' codec can't decode"),
        ('review,sentiment\n"' + "x" * 200_000, "could not be read (field larger than"),
    ],
)
def test_a_damaged_table_of_reviews_says_what_is_wrong(content, says, tmp_path):
    put(tmp_path, "IMDB Dataset.csv", content)
    refused(lambda: files.imdb(folder=str(tmp_path)), "IMDB Dataset.csv", says)


def test_a_cut_archive_of_reviews_is_named(tmp_path):
    named = {**review_files(), "aclImdb/README": MANY_BYTES.hex()}
    path = put(tmp_path, "aclImdb_v1.tar.gz", tar_of(named, "gz")[:5_000])
    refused(lambda: files.imdb(folder=str(tmp_path)), str(path), "could not be read")


def test_two_tables_are_one_too_many(tmp_path):
    for name in ("a.csv", "b.csv.gz"):
        put(tmp_path, name)
    refused(
        lambda: files.imdb(folder=str(tmp_path)), "several tables (a.csv, b.csv.gz)"
    )


# QM9

MOLECULES = [
    # index, SMILES, atoms, polarizability
    (1, "C", 5, 13.21),
    (2, "C#N", 3, 15.0),
    (3, "OC=O", 5, 17.5),
    (5, "c1ccccc1", 12, 57.25),
]


def molecule_table(rows=MOLECULES):
    head = "Index,SMILES,N_atoms,Polarizability_bohr3\n"
    return head + "".join(",".join(map(str, row)) + "\n" for row in rows)


def read_table(folder, rows, count=None):
    put(folder, "qm9.csv", molecule_table(rows))
    return files.qm9(folder=str(folder), molecules=count or len(rows))


def xyz(index, smiles, atoms, polarizability):
    """A file of the original form, geometry aside."""
    properties = "\t".join(["157.7", "157.7", "157.7", "0.", str(polarizability)])
    lines = [str(atoms), f"gdb {index}\t{properties}\t-0.3877\t0.1171"]
    lines += ["C\t-0.0126981359\t 1.0858041578\t 0.0080009958\t-0.535689"] * atoms
    lines += ["1341.307\t1341.3284", f"{smiles}\tX", "InChI=1S/CH4/h1H4\tInChI=1S"]
    return "\n".join(lines) + "\n"


def xyz_files(rows=MOLECULES):
    return {f"dsgdb9nsd_{row[0]:06d}.xyz": xyz(*row) for row in rows}


def test_a_molecule_is_its_graph_with_hydrogens(tmp_path):
    found = read_table(tmp_path, MOLECULES[1:3])
    nodes, bonds = found["nodes"], found["bonds"]
    assert nodes.shape == (2, 5, 11) and bonds.shape == (2, 5, 5)
    hydrogen = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    nothing = [0] * 11
    np.testing.assert_array_equal(
        nodes[0],
        [
            [0, 1, 0, 0, 0, 6, 0, 1, 0, 0, 1],  # C, sp, one H
            [0, 0, 1, 0, 0, 7, 0, 1, 0, 0, 0],  # N, sp
            hydrogen,
            nothing,
            nothing,
        ],
    )
    np.testing.assert_array_equal(
        nodes[1],
        [
            [0, 0, 0, 1, 0, 8, 0, 0, 1, 0, 1],  # O of the OH, sp2 by conjugation
            [0, 1, 0, 0, 0, 6, 0, 0, 1, 0, 1],  # C, sp2, one H
            [0, 0, 0, 1, 0, 8, 0, 0, 1, 0, 0],  # O, sp2
            hydrogen,
            hydrogen,
        ],
    )
    expected = np.zeros((2, 5, 5), int)
    for row, first, second, kind in [
        *((0, 0, 1, 3), (0, 0, 2, 1)),  # C#N, C-H
        *((1, 0, 1, 1), (1, 1, 2, 2), (1, 0, 3, 1), (1, 1, 4, 1)),
    ]:
        expected[row, first, second] = expected[row, second, first] = kind
    np.testing.assert_array_equal(bonds, expected)
    np.testing.assert_array_equal(found["polarizability"], np.float32([15.0, 17.5]))


def test_benzene_is_aromatic(tmp_path):
    found = read_table(tmp_path, MOLECULES[3:])
    assert found["nodes"][0, :, 6].tolist() == [1] * 6 + [0] * 6
    ring = found["bonds"][0, :6, :6]
    assert set(ring.ravel()) == {0, 4} and (ring > 0).sum() == 12


def test_only_the_first_molecules_are_read(tmp_path):
    rows = [*MOLECULES[:2], (3, "no molecule", 1, 1.0)]
    found = read_table(tmp_path, rows, count=2)
    assert len(found["nodes"]) == 2
    refused(lambda: read_table(tmp_path, rows), "qm9.csv line 4", "'no molecule'")


@pytest.mark.parametrize("form", ["gz", "loose", "folder", "archive"])
def test_every_form_gives_the_same_molecules(form, tmp_path):
    expected = read_table(tmp_path / "expected", MOLECULES)
    if form == "gz":
        put(tmp_path, "qm9.csv.gz", gzip.compress(molecule_table().encode()))
    elif form == "archive":
        put(tmp_path, "dsgdb9nsd.xyz.tar.bz2", tar_of(xyz_files(), "bz2"))
    else:
        folder = tmp_path if form == "loose" else tmp_path / "dsgdb9nsd.xyz"
        for name, text in xyz_files().items():
            put(folder, name, text)
    assert_same(files.qm9(folder=str(tmp_path), molecules=4), expected)


def test_an_archive_is_read_by_index_whatever_its_order(tmp_path):
    expected = read_table(tmp_path / "expected", MOLECULES[:3])
    path = tmp_path / "dsgdb9nsd.xyz.tar.bz2"
    for order in itertools.permutations(MOLECULES):
        path.write_bytes(tar_of(xyz_files(order), "bz2"))
        assert_same(files.qm9(folder=str(tmp_path), molecules=3), expected)


def test_an_archive_is_read_no_further_than_asked_for(tmp_path):
    archive = bz2.decompress(tar_of({**xyz_files(), "rest": MANY_BYTES.hex()}, "bz2"))
    damaged = bz2.compress(archive[:30_000]) + bz2.compress(archive[30_000:])[:-20]
    path = put(tmp_path, "dsgdb9nsd.xyz.tar.bz2", damaged)
    assert len(files.qm9(folder=str(tmp_path), molecules=3)["nodes"]) == 3
    refused(
        lambda: files.qm9(folder=str(tmp_path), molecules=5), str(path), "could not"
    )


def test_uncharacterized_molecules_are_left_out_of_the_original_files(tmp_path):
    listed = (
        "List of molecules among the 133885 GDB9 molecules ...\n\n=====\n"
        "#   Index     GDB17 SMILES     SMILES for B3LYP XYZ    ...  D_IJ\n=====\n"
        "       1      C      C      [CH4]     6.036217\n"
        "       3      OC=O   OC=O   O[CH]=O   5.631463\n=====\n"
    )
    expected = read_table(tmp_path / "expected", [MOLECULES[1], MOLECULES[3]])
    put(tmp_path, "uncharacterized.txt", listed)
    put(tmp_path, "dsgdb9nsd.xyz.tar.bz2", tar_of(xyz_files(), "bz2"))
    assert_same(files.qm9(folder=str(tmp_path), molecules=2), expected)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ((2, "C(", 5, 1.0), "line 3 has the SMILES 'C(', which is no molecule"),
        ((2, "C(C)(C)(C)(C)C", 5, 1.0), "which is no molecule"),  # five bonds
        ((2, "", 5, 1.0), "line 3 has the SMILES '', which is no molecule"),
        ((2, "CCl", 5, 1.0), "line 3 has the element Cl, which is not one of H, C, N"),
        ((2, "N->C", 5, 1.0), "line 3 has a bond of the kind dative"),
        (
            (2, "C", 5, "large"),
            "line 3 has the polarizability 'large', which is no num",
        ),
        ((2, "C", 5, "nan"), "line 3 has the polarizability 'nan', which is no number"),
        ((2, "C"), "line 3 has too few columns"),
    ],
)
def test_a_damaged_table_of_molecules_names_the_line(row, says, tmp_path, capfd):
    refused(lambda: read_table(tmp_path, [MOLECULES[0], row]), "qm9.csv", says)
    assert capfd.readouterr().err == ""  # RDKit's own complaint


def test_a_table_without_a_column_is_named(tmp_path):
    put(tmp_path, "qm9.csv", molecule_table().replace("SMILES", "smiles"))
    refused(lambda: files.qm9(folder=str(tmp_path)), "has no column 'SMILES', only 'In")


def test_fewer_molecules_than_asked_for_are_refused(tmp_path):
    refused(
        lambda: read_table(tmp_path, MOLECULES, count=9), "has 4 molecules", "les 9"
    )


@pytest.mark.parametrize(
    "damage", ["5\n", "5\ngdb 1\t2.0\n", "five\ngdb 1 2 3 4 5 6 7\n"]
)
def test_a_damaged_original_file_is_named(damage, tmp_path):
    path = put(tmp_path, "dsgdb9nsd_000001.xyz", damage)
    refused(lambda: files.qm9(folder=str(tmp_path)), str(path), "not of the form")


def test_molecules_need_rdkit(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    refused(lambda: read_table(tmp_path, MOLECULES), "pip install 'grok_jax[qm9]'")


# Embeddings of integers

VECTORS = np.array([[1.5, -2.0], [0.0, 0.25], [3e4, 7.0]])
VECTOR_TABLE = "1.5,-2\n0,0.25\n\n3e4,7\n"


def saved(array):
    raw = io.BytesIO()
    np.save(raw, array, allow_pickle=array.dtype == object)
    return raw.getvalue()


def read_vectors(place="", modulus=3):
    return files.modular_embedded(embedding="file", modulus=modulus, folder=str(place))


def test_the_file_of_an_embedding_is_named_by_settings_of_its_task():
    read, made = schema(files.modular_embedded), schema(modular_embedded)
    for name, leaf in read.items():
        assert made[name].default == leaf.default and made[name].kind is leaf.kind


@pytest.mark.parametrize("embedding", ["one_hot", "binary", "fourier"])
def test_an_embedding_that_is_computed_reads_nothing(embedding):
    assert files.modular_embedded(embedding=embedding, folder="/no/such/place") == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vectors.npy", saved(VECTORS)),
        ("vectors.npy", saved(np.asfortranarray(VECTORS.astype(np.float32)))),
        ("vectors.csv", VECTOR_TABLE),
        ("vectors.csv", VECTOR_TABLE.encode("utf-8-sig").replace(b"\n", b"\r\n")),
        ("vectors.csv.gz", gzip.compress(VECTOR_TABLE.encode(), mtime=0)),
    ],
)
def test_an_embedding_is_a_file_or_the_one_table_of_a_folder(name, content, tmp_path):
    path = put(tmp_path, name, content)
    put(tmp_path, "notes.txt", "not a table")
    for place in (path, tmp_path):
        assert_same(read_vectors(place), {"embedding": VECTORS.astype(np.float32)})


def test_an_embedding_is_looked_for_in_the_usual_places(places):
    shared, cache = places
    says = (str(cache / "embedding"), ".npy, .csv, .csv.gz", "task.folder")
    refused(read_vectors, "There is no embedding here", *says)
    put(cache / "embedding", "vectors.npy", saved(VECTORS))
    assert read_vectors()["embedding"].shape == (3, 2)
    put(shared / "embedding", "vectors.npy", saved(VECTORS[:, :1]))
    assert read_vectors()["embedding"].shape == (3, 1)


def test_a_place_without_an_embedding_or_with_several_is_named(tmp_path):
    refused(lambda: read_vectors(tmp_path / "no.npy"), "no.npy, which is not there")
    refused(lambda: read_vectors(tmp_path), "which does not have a table of numbers")
    for name in ("a.npy", "b.csv"):
        put(tmp_path, name)
    refused(lambda: read_vectors(tmp_path), "has several tables (a.npy, b.csv)")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("v.npy", saved(VECTORS[:2]), "has shape (2, 2), where task.modulus 3"),
        ("v.npy", saved(VECTORS[:, 0]), "has shape (3,), where task.modulus 3 needs"),
        ("v.npy", saved(VECTORS[:, :0]), "has shape (3, 0), where task.modulus 3 nee"),
        ("v.npy", saved(np.array([[1, np.nan]] * 3)), "that are not finite (3 of 6)"),
        ("v.npy", saved(1e40 * VECTORS), "has numbers that are not finite (5 of 6)"),
        ("v.npy", saved(1j * VECTORS), "has values of type complex128, not real"),
        ("v.npy", saved(VECTORS.astype(str)), "has values of type <U32, not real"),
        ("v.npy", saved(VECTORS)[:-9], "could not be read"),
        ("v.npy", b"no array at all", "could not be read (the magic string is not"),
        ("v.npy", b"", "could not be read"),
        ("v.csv", "", "has shape (0, 0), where task.modulus 3 needs"),
        ("v.csv", "1,2\n3,4\n", "has shape (2, 2), where task.modulus 3 needs"),
        ("v.csv", "1,2\n3,4\n5\n", "could not be read (the number of columns changed"),
        ("v.csv", "1,2\n3,x\n5,6\n", "could not be read (could not convert string 'x'"),
        ("v.csv", "1,2\n3,inf\n5,6\n", "has numbers that are not finite (1 of 6)"),
        ("v.csv", "1,é\n".encode("latin-1"), "could not be read ('utf-8' codec can't"),
        ("v.csv.gz", VECTOR_TABLE, "could not be read (Not a gzipped file"),
    ],
)
def test_a_damaged_embedding_says_what_is_wrong(name, content, says, tmp_path):
    path = put(tmp_path, name, content)
    refused(lambda: read_vectors(path), str(path), says)


def test_no_pickled_embedding_is_loaded(tmp_path):
    path = put(tmp_path, "v.npy", saved(np.array([[Trap()]], object)))
    refused(lambda: read_vectors(path, 1), "v.npy could not be read")
    assert not Trap.sprung
