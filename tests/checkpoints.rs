//! Checkpoints, good and bad (no GPU): group M of the bad-input list, and the goldens that pin
//! element widening, position resampling and recipe evaluation to PyTorch's numbers.
//!
//! The safetensors crate serves as the oracle: whatever `Checkpoint` accepts, it must accept too,
//! with the same names, shapes and bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use safetensors::SafeTensors;
use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::checkpoint::materialise::{check, materialise, near, scan, unused};
use vit_gpu::error::Error;
use vit_gpu::graph::{BatchNorm, Part, PositionFilter, Transform, Weight};
use vit_gpu::tensor::Shape;

// ---------------------------------------------------------------- helpers

fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
}

/// A safetensors file from its header and data, however wrong.
fn raw(header: impl AsRef<[u8]>, data: &[u8]) -> Vec<u8> {
    let header = header.as_ref();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    file
}

/// A sound file of f32 tensors.
fn sound(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let (mut header, mut data) = (Vec::new(), Vec::new());
    for (name, dims, values) in tensors {
        let from = data.len();
        data.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        let to = data.len();
        header.push(format!(
            "\"{name}\":{{\"dtype\":\"F32\",\"shape\":{dims:?},\"data_offsets\":[{from},{to}]}}"
        ));
    }
    raw(format!("{{{}}}", header.join(",")), &data)
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn with(files: &[(&str, &[u8])]) -> Self {
        let folder = Self::new();
        for (name, bytes) in files {
            folder.put(name, bytes);
        }
        folder
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("a file in the temporary folder");
        path
    }

    fn open(&self) -> Result<Checkpoint, Error> {
        Checkpoint::open(self.0.path(), true)
    }
}

/// Opens bytes as `model.safetensors`; the error must be a model error that names the file.
fn refused(bytes: &[u8]) -> String {
    let folder = Folder::new();
    let path = folder.put("model.safetensors", bytes);
    let start = Instant::now();
    let error = Checkpoint::open(&path, true).expect_err("this file must be refused");
    assert!(start.elapsed() < Duration::from_secs(2), "took {:?}", start.elapsed());
    assert!(matches!(error, Error::Model { .. }), "{error}");
    let text = error.message();
    assert!(text.contains("model.safetensors"), "no file named: {text}");
    assert!(text.len() < 2000, "an error of {} bytes", text.len());
    text
}

#[track_caller]
fn says(text: impl ToString, needles: &[&str]) {
    let text = text.to_string();
    for needle in needles {
        assert!(text.contains(needle), "`{needle}` is not in: {text}");
    }
}

#[track_caller]
fn model_error<T: std::fmt::Debug>(result: Result<T, Error>, needles: &[&str]) {
    let error = result.expect_err("must fail");
    assert!(matches!(error, Error::Model { .. }), "{error}");
    says(error.message(), needles);
}

#[track_caller]
fn assert_close(got: &[f32], want: &[f32], atol: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        // NaN fails: written as the condition to accept.
        let ok = (g - w).abs() <= atol;
        assert!(ok, "{what}: element {i}: got {g}, torch has {w}");
    }
}

fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    checkpoint.read(name).expect(name).to_f32()
}

// ---------------------------------------------------------------- damaged headers

#[test]
fn m01_empty_and_seven_bytes() {
    says(refused(b""), &["empty"]);
    says(refused(&[3, 0, 0, 0, 0, 0, 0]), &["7 bytes", "too short"]);
}

#[test]
fn m02_header_lengths_that_lie() {
    for (length, needle) in
        [(u64::MAX, "the format allows"), (100_000_001, "the format allows"), (1000, "only")]
    {
        for body in [&b"{}"[..], b"\0\0", b""] {
            let mut file = length.to_le_bytes().to_vec();
            file.extend(body);
            says(refused(&file), &["claims a header", needle]);
        }
    }
}

#[test]
fn m03_headers_that_are_not_an_object() {
    says(refused(&raw(b"{\"\xff\xfe\": 1}", b"")), &["not UTF-8"]);
    says(refused(&raw("{nonsense", b"")), &["cannot be read"]);
    says(refused(&raw("[1, 2]", b"")), &["does not start with `{`"]);
    says(refused(&raw(" {}", b"")), &["does not start with `{`"]);
    says(refused(&raw("", b"")), &["does not start with `{`"]);
    let deep = format!("{{\"a\":{}", "[".repeat(200_000));
    says(refused(&raw(deep, b"")), &["cannot be read", "`a`"]);
    let deep = format!("{{\"a\":{{\"dtype\":{}", "{\"a\":".repeat(200_000));
    says(refused(&raw(deep, b"")), &["cannot be read"]);
    says(refused(&raw("{\"__metadata__\": {\"a\": 1}}", b"")), &["__metadata__"]);
    says(refused(&raw("{} trailing", b"")), &["cannot be read"]);
}

/// One tensor's header entry.
fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}")
}

fn with_entries(entries: &[String], data_bytes: usize) -> Vec<u8> {
    raw(format!("{{{}}}", entries.join(",")), &vec![0; data_bytes])
}

#[test]
fn m04_offsets() {
    let a = entry("first", "F32", "[1]", "[0,4]");
    let hole = [a.clone(), entry("bad.one", "F32", "[1]", "[8,12]")];
    says(refused(&with_entries(&hole, 12)), &["`bad.one`", "hole of 4 bytes"]);
    let hole_at_start = [entry("bad.one", "F32", "[1]", "[4,8]")];
    says(refused(&with_entries(&hole_at_start, 8)), &["`bad.one`", "hole of 4 bytes"]);
    let overlap = [a.clone(), entry("bad.one", "F32", "[1]", "[2,6]")];
    says(refused(&with_entries(&overlap, 6)), &["`bad.one`", "inside the tensor before"]);
    let same = [a.clone(), entry("bad.one", "F32", "[1]", "[0,4]")];
    says(refused(&with_entries(&same, 4)), &["inside the tensor before"]);
    let backwards = [entry("bad.one", "F32", "[1]", "[4,0]")];
    says(refused(&with_entries(&backwards, 4)), &["`bad.one`", "before its start"]);
    for offsets in ["[-4,0]", "[0.0,4.0]", "[0]", "[0,4,8]", "[0,99999999999999999999999]", "\"0\""] {
        let odd = [entry("bad.one", "F32", "[1]", offsets)];
        says(refused(&with_entries(&odd, 4)), &["`bad.one`"]);
    }
}

#[test]
fn m05_shapes_against_bytes() {
    says(
        refused(&with_entries(&[entry("bad.one", "F32", "[2]", "[0,4]")], 4)),
        &["`bad.one`", "[2]", "4 bytes"],
    );
    says(refused(&with_entries(&[entry("bad.one", "F16", "[1]", "[0,4]")], 4)), &["`bad.one`", "F16"]);
    for shape in ["[4294967296,4294967296,2]", "[18446744073709551615,2]", "[9223372036854775808,0,3,9]"] {
        let text = refused(&with_entries(&[entry("bad.one", "F32", shape, "[0,4]")], 4));
        says(text, &["`bad.one`"]);
    }
    // The element count fits, its size in bytes does not.
    let text = refused(&with_entries(&[entry("bad.one", "F64", "[4611686018427387904]", "[0,0]")], 0));
    says(text, &["`bad.one`"]);
    for shape in ["[-1]", "[1.5]", "\"1\"", "null", "[[1]]"] {
        says(refused(&with_entries(&[entry("bad.one", "F32", shape, "[0,4]")], 4)), &["`bad.one`"]);
    }
}

#[test]
fn m06_trailing_bytes() {
    let mut file = sound(&[("a", &[2], &[1.0, 2.0])]);
    file.extend(b"PK\x03\x04 more");
    says(refused(&file), &["9 bytes after the last tensor"]);
}

#[test]
fn m07_cut_download() {
    let file = sound(&[("a", &[2], &[1.0, 2.0]), ("b.c", &[4], &[0.0; 4])]);
    let folder = Folder::new();
    let path = folder.put("model.safetensors", &file[..file.len() - 1]);
    let error = Checkpoint::open(&path, true).expect_err("cut");
    says(&error, &["cut short", "`b.c`"]);
    says(error.hint().expect("a hint"), &["delete", "pull"]);
    // Wherever it is cut, it is refused.
    for n in 0..file.len() {
        refused(&file[..n]);
    }
}

#[test]
fn m08_duplicate_names() {
    let twice = [entry("a.b", "F32", "[1]", "[0,4]"), entry("a.b", "F32", "[1]", "[4,8]")];
    let file = with_entries(&twice, 8);
    says(refused(&file), &["`a.b`", "twice"]);
    let escaped = [entry("a.b", "F32", "[1]", "[0,4]"), entry("\\u0061.b", "F32", "[2]", "[4,12]")];
    says(refused(&with_entries(&escaped, 12)), &["`a.b`", "twice"]);
    let metadata = "{\"__metadata__\":{},\"__metadata__\":{}}";
    says(refused(&raw(metadata, b"")), &["__metadata__", "twice"]);
    let field = "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[0,0]}}";
    says(refused(&raw(field, b"")), &["duplicate field"]);
}

#[test]
fn m09_no_tensors() {
    says(refused(&raw("{}", b"")), &["no tensors"]);
    says(refused(&raw("{\"__metadata__\":{\"format\":\"pt\"}}", b"")), &["no tensors"]);
}

#[test]
fn m10_element_types_are_judged_when_read() {
    let entries = [
        entry("ids", "I64", "[1]", "[0,8]"),
        entry("f8", "F8_E4M3", "[4]", "[8,12]"),
        entry("odd", "Q9_NEW", "[7]", "[12,16]"),
        entry("fine", "F32", "[1]", "[16,20]"),
    ];
    let folder = Folder::with(&[("model.safetensors", &with_entries(&entries, 20))]);
    let checkpoint = folder.open().expect("types that nobody reads do no harm");
    assert_eq!(values(&checkpoint, "fine"), [0.0]);
    for (name, dtype) in [("ids", "I64"), ("f8", "F8_E4M3"), ("odd", "Q9_NEW")] {
        let error = checkpoint.read(name).expect_err(dtype);
        says(&error, &["model.safetensors", name, dtype]);
        says(error.hint().expect("a hint"), &["F32, F16, BF16"]);
        model_error(check([(&Weight::tensor(name), Shape::new(&[4]))], &checkpoint), &[name, dtype]);
    }
    assert_eq!(checkpoint.parameters(), 1);
    assert_eq!(checkpoint.total_bytes(), 20);
    says(checkpoint.dtype_summary(), &["I64 (1)", "F32 (1)"]);
}

#[test]
fn five_dimensions_are_an_error_only_when_asked_for() {
    let file = sound(&[("deep", &[1, 1, 1, 1, 2], &[1.0, 2.0]), ("flat", &[2], &[3.0, 4.0])]);
    let folder = Folder::with(&[("model.safetensors", &file)]);
    let checkpoint = folder.open().expect("opens");
    assert_eq!(checkpoint.index().keys().collect::<Vec<_>>(), ["flat"]);
    model_error(checkpoint.read("deep"), &["`deep`", "5 dimensions"]);
    model_error(
        check([(&Weight::tensor("deep"), Shape::new(&[2]))], &checkpoint),
        &["`deep`", "5 dimensions"],
    );
}

// ---------------------------------------------------------------- fitting a model

#[test]
fn m11_missing_extra_wrong_transposed() {
    let zeros = [0.0; 12];
    let file =
        sound(&[("a.weight", &[3, 4], &zeros), ("a.bias", &[3], &zeros[..3]), ("extra", &[1], &[0.0])]);
    let folder = Folder::with(&[("model.safetensors", &file)]);
    let checkpoint = folder.open().expect("opens");
    let fits = |name: &str, dims: &[usize]| check([(&Weight::tensor(name), Shape::new(dims))], &checkpoint);
    fits("a.weight", &[3, 4]).expect("fits");
    model_error(fits("a.weigth", &[3, 4]), &["`a.weigth` is missing", "near: `a.weight`"]);
    model_error(fits("a.weight", &[3, 5]), &["`a.weight` has shape [3,4]", "[3,5]"]);
    model_error(fits("a.weight", &[4, 3]), &["`a.weight` has shape [3,4]", "[4,3]", "transposed"]);
    model_error(fits("a.weight", &[6, 2]), &["[3,4]", "[6,2]"]);
    model_error(fits("a.bias", &[4]), &["`a.bias` has shape [3]", "[4]"]);

    let weights: Vec<Weight> = (0..9).map(|i| Weight::tensor(format!("layer.{i}.q"))).collect();
    let all = weights.iter().map(|w| (w, Shape::new(&[1])));
    model_error(check(all, &checkpoint), &["`layer.0.q`", "`layer.4.q`", "and 4 more"]);
    assert_eq!(unused([&Weight::tensor("a.weight")], &checkpoint), ["a.bias", "extra"]);
}

#[test]
fn m12_prefixes_are_named() {
    let file = sound(&[("module.vit.cls_token", &[1], &[0.0]), ("module.vit.other", &[1], &[0.0])]);
    let folder = Folder::with(&[("model.safetensors", &file)]);
    let checkpoint = folder.open().expect("opens");
    assert_eq!(near("vit.cls_token", checkpoint.index(), 3)[0], "module.vit.cls_token");
    let lookup = check([(&Weight::tensor("cls_token"), Shape::new(&[1]))], &checkpoint);
    model_error(lookup, &["missing", "near: `module.vit.cls_token`"]);
}

#[test]
fn training_buffers_are_not_reported_as_extra() {
    let names =
        ["position_ids", "m.embeddings.position_ids", "h.0.attn.bias", "x.num_batches_tracked", "real"];
    let tensors: Vec<(&str, &[usize], &[f32])> = names.iter().map(|n| (*n, &[1][..], &[0.0][..])).collect();
    let folder = Folder::with(&[("model.safetensors", &sound(&tensors))]);
    assert_eq!(unused([], &folder.open().expect("opens")), ["real"]);
}

#[test]
fn m13_m14_values_that_are_not_finite_or_too_large_for_f16() {
    let mut values = vec![1.0f32; 10_000];
    assert_eq!(scan(&values).warning("w", true), None);
    values[9_999] = 65_504.0;
    assert_eq!(scan(&values).warning("w", true), None);
    values[5_000] = -70_000.0;
    assert_eq!(scan(&values).beyond_f16, 1);
    assert_eq!(scan(&values).warning("w", false), None);
    says(scan(&values).warning("w", true).unwrap_or_default(), &["weight w", "1 of 10000", "f16"]);
    values[0] = f32::NAN;
    values[1] = f32::NEG_INFINITY;
    assert_eq!((scan(&values).non_finite, scan(&values).beyond_f16), (2, 1));
    says(scan(&values).warning("w", false).unwrap_or_default(), &["2 of 10000", "NaN"]);
    // NaN payloads are no reason to refuse a file.
    let folder = Folder::with(&[("model.safetensors", &sound(&[("a", &[1], &[f32::NAN])]))]);
    let checkpoint = folder.open().expect("opens");
    assert!(checkpoint.read("a").expect("reads").to_f32()[0].is_nan());
}

// ---------------------------------------------------------------- folders, shards, other formats

const ONE: (&str, &[usize], &[f32]) = ("a", &[1], &[1.0]);
const TWO: (&str, &[usize], &[f32]) = ("b", &[1], &[2.0]);

fn index_of(map: &[(&str, &str)]) -> Vec<u8> {
    let map: Vec<String> = map.iter().map(|(t, f)| format!("{}:{}", quoted(t), quoted(f))).collect();
    format!("{{\"metadata\":{{}},\"weight_map\":{{{}}}}}", map.join(",")).into_bytes()
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

const INDEX: &str = "model.safetensors.index.json";

#[test]
fn m17_shards() {
    let (one, two) = (sound(&[ONE]), sound(&[TWO]));
    let index = index_of(&[("a", "m-1.safetensors"), ("b", "m-2.safetensors")]);
    let good = Folder::with(&[(INDEX, &index), ("m-1.safetensors", &one), ("m-2.safetensors", &two)]);
    assert_eq!(values(&good.open().expect("opens"), "b"), [2.0]);
    assert_eq!(values(&Checkpoint::open(&good.0.path().join(INDEX), true).expect("opens"), "a"), [1.0]);

    let missing = Folder::with(&[(INDEX, &index), ("m-1.safetensors", &one)]);
    model_error(missing.open(), &["m-2.safetensors", "cannot be opened"]);

    let doubled = sound(&[ONE, TWO]);
    let both = Folder::with(&[(INDEX, &index), ("m-1.safetensors", &one), ("m-2.safetensors", &doubled)]);
    model_error(both.open(), &["`a`", "two files", "m-1.safetensors", "m-2.safetensors"]);

    let swapped = index_of(&[("a", "m-2.safetensors"), ("b", "m-1.safetensors")]);
    let wrong = Folder::with(&[(INDEX, &swapped), ("m-1.safetensors", &one), ("m-2.safetensors", &two)]);
    model_error(wrong.open(), &["`a`", "does not hold it"]);

    for (text, needle) in
        [("[]", "not a checkpoint index"), ("{}", "weight_map"), ("{\"weight_map\":{}}", "0 shard")]
    {
        model_error(Folder::with(&[(INDEX, text.as_bytes())]).open(), &[INDEX, needle]);
    }
}

#[test]
fn m17_shard_paths_stay_in_the_folder() {
    let outside = tempfile::tempdir().expect("a folder");
    let secret = outside.path().join("x.safetensors");
    fs::write(&secret, sound(&[ONE])).expect("written");
    let absolute = secret.display().to_string();
    let paths = [
        "../../etc/x",
        "..",
        ".",
        "",
        "sub/x.safetensors",
        "/etc/x",
        &absolute,
        "C:\\x",
        "a\\b",
        "a\0b",
        "x/",
    ];
    for path in paths {
        let folder = Folder::with(&[(INDEX, &index_of(&[("a", path)]))]);
        model_error(folder.open(), &[INDEX, "not a plain file name"]);
    }
}

#[test]
fn m18_other_formats_are_named() {
    let cases: [(&[u8], &str); 9] = [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git-LFS"),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "HTML"),
        (b"PK\x03\x04\x14\0\0\0archive/data.pkl", "PyTorch pickle"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "pickle"),
        (b"GGUF\x03\0\0\0\0\0\0\0", "GGUF"),
        (b"\x08\x07\x12\x07pytorch\x1a", "ONNX"),
        (b"\x89HDF\r\n\x1a\n\0", "HDF5"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "archive"),
        (b"{\"model_type\": \"vit\"}", "JSON"),
    ];
    for (bytes, name) in cases {
        says(refused(bytes), &[name]);
    }
}

#[test]
fn m18_pickles_are_refused_with_a_way_out() {
    for path in [golden("vit_bin"), golden("vit_bin").join("pytorch_model.bin")] {
        let error = Checkpoint::open(&path, true).expect_err("a pickle");
        says(&error, &["vit_bin", "pickle", "never read"]);
        says(error.hint().expect("a hint"), &["python -c", "save_file", "pytorch_model.bin"]);
    }
}

#[test]
fn m19_a_file_that_shrinks_while_it_is_in_use() {
    let folder = Folder::new();
    let path = folder.put("model.safetensors", &sound(&[ONE, TWO]));
    let length = fs::metadata(&path).expect("is there").len();
    for mmap in [false, true] {
        let checkpoint = Checkpoint::open(&path, mmap).expect("opens");
        let file = fs::OpenOptions::new().write(true).open(&path).expect("writable");
        file.set_len(length - 4).expect("shrinks");
        model_error(checkpoint.read("b"), &["model.safetensors", "changed while it was in use"]);
        file.set_len(length).expect("grows");
        assert_eq!(values(&checkpoint, "a"), [1.0]);
    }
}

#[test]
fn m19_large_files_are_mapped_and_still_checked() {
    // Sparse: 17 M zeros, above the size from which files are mapped.
    let folder = Folder::new();
    let n = 17usize << 20;
    let header = format!("{{{}}}", entry("big", "F32", &format!("[{n}]"), &format!("[0,{}]", 4 * n)));
    let path = folder.put("model.safetensors", &raw(&header, &[]));
    let file = fs::OpenOptions::new().write(true).open(&path).expect("writable");
    let length = 8 + header.len() + 4 * n;
    file.set_len(length as u64).expect("grows");
    let mapped = Checkpoint::open(&path, true).expect("opens");
    let plain = Checkpoint::open(&path, false).expect("opens");
    assert_eq!(mapped.read("big").expect("reads").shape(), Shape::new(&[n]));
    file.set_len(length as u64 / 2).expect("shrinks");
    model_error(mapped.read("big"), &["changed while it was in use"]);
    model_error(plain.read("big"), &["changed while it was in use"]);
}

#[test]
fn folders_are_never_guessed_about() {
    let (one, two) = (sound(&[ONE]), sound(&[TWO]));
    let alone = Folder::with(&[("weights.safetensors", &one), ("config.json", b"{}")]);
    assert_eq!(values(&alone.open().expect("the only one"), "a"), [1.0]);
    let several = Folder::with(&[("x.safetensors", &one), ("y.safetensors", &two)]);
    model_error(several.open(), &["2 safetensors files", "x.safetensors, y.safetensors"]);
    let named = Folder::with(&[("x.safetensors", &one), ("model.safetensors", &two)]);
    assert_eq!(values(&named.open().expect("the canonical name"), "b"), [2.0]);
    let both = Folder::with(&[(INDEX, &index_of(&[("a", "m")])), ("model.safetensors", &two)]);
    model_error(both.open(), &["holds both", INDEX]);
    // mlx writes an index of the one file there is.
    let index = index_of(&[("b", "model.safetensors")]);
    let indexed = Folder::with(&[(INDEX, &index), ("model.safetensors", &two)]);
    assert_eq!(values(&indexed.open().expect("one file all the same"), "b"), [2.0]);
    let empty = Folder::with(&[("config.json", b"{}")]);
    model_error(empty.open(), &["has no weights"]);
    says(empty.open().expect_err("empty").hint().expect("a hint"), &["model.safetensors", INDEX]);
    let pickle = Folder::with(&[("pytorch_model.bin", b"PK\x03\x04")]);
    model_error(pickle.open(), &["only pickled weights", "pytorch_model.bin"]);
    model_error(
        Checkpoint::open(Path::new("/nonexistent/model"), true),
        &["/nonexistent/model", "cannot be opened"],
    );
}

#[cfg(unix)]
#[test]
fn special_files_and_dangling_links_do_not_hang() {
    let folder = Folder::new();
    let fifo = folder.0.path().join("model.safetensors");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
    assert!(made.success());
    let start = Instant::now();
    model_error(Checkpoint::open(&fifo, true), &["not a regular file"]);
    model_error(folder.open(), &["not a regular file"]);
    assert!(start.elapsed() < Duration::from_secs(1));
    let dangling = Folder::new();
    let link = dangling.0.path().join("model.safetensors");
    std::os::unix::fs::symlink("nowhere", link).expect("links");
    model_error(dangling.open(), &["model.safetensors", "cannot be opened"]);
}

#[test]
fn names_from_files_cannot_drive_the_terminal() {
    let name = format!("evil\u{1b}[2J{}", "x".repeat(5000));
    let header = format!("{{{}:{{\"dtype\":\"F32\",\"shape\":[9],\"data_offsets\":[0,4]}}}}", quoted(&name));
    let text = refused(&raw(header, &[0; 4]));
    assert!(!text.contains('\u{1b}') && text.len() < 600, "{text}");
}

// ---------------------------------------------------------------- goldens: elements

#[test]
fn goldens_read_as_the_crate_reads_them() {
    for case in ["vit", "vit_bf16", "vit_f16", "beit"] {
        let path = golden(case).join("model.safetensors");
        let bytes = fs::read(&path).expect("the golden is there");
        let oracle = SafeTensors::deserialize(&bytes).expect("the golden is sound");
        let checkpoint = Checkpoint::open(&golden(case), true).expect(case);
        assert_eq!(checkpoint.index().len(), oracle.len());
        for (name, view) in oracle.iter() {
            let tensor = checkpoint.read(name).expect(name);
            assert_eq!(tensor.shape().dims(), view.shape(), "{case} {name}");
            let data = view.data();
            let want: Vec<f32> = match view.dtype() {
                safetensors::Dtype::F32 => {
                    data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
                }
                safetensors::Dtype::BF16 => {
                    let bits = |b: &[u8]| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16);
                    data.chunks(2).map(bits).collect()
                }
                safetensors::Dtype::F16 => data.chunks(2).map(|b| widen([b[0], b[1]])).collect(),
                other => panic!("{other:?}"),
            };
            let got = tensor.to_f32();
            assert!(got.iter().zip(&want).all(|(g, w)| g.to_bits() == w.to_bits()), "{case} {name}");
        }
    }
}

/// f16 to f32 from the definition, independent of the `half` crate.
fn widen(bytes: [u8; 2]) -> f32 {
    let bits = u16::from_le_bytes(bytes);
    let (sign, exponent, fraction) = (bits >> 15, (bits >> 10) & 31, bits & 1023);
    let magnitude = match exponent {
        0 => f32::from(fraction) * 2f32.powi(-24),
        31 if fraction == 0 => f32::INFINITY,
        31 => f32::NAN,
        e => (1.0 + f32::from(fraction) / 1024.0) * 2f32.powi(i32::from(e) - 15),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

#[test]
fn sharded_equals_single() {
    let (single, sharded) = (golden("vit"), golden("vit_sharded"));
    let single = Checkpoint::open(&single, false).expect("single");
    let sharded = Checkpoint::open(&sharded, true).expect("sharded");
    assert_eq!(single.index(), sharded.index());
    assert_eq!((single.parameters(), single.total_bytes()), (sharded.parameters(), sharded.total_bytes()));
    assert_eq!(single.parameters(), 30_039);
    for name in single.index().keys() {
        assert_eq!(single.read(name).expect(name), sharded.read(name).expect(name));
    }
}

#[test]
fn embedded_checkpoints_and_threads() {
    let bytes: &'static [u8] =
        Box::leak(fs::read(golden("vit_f16").join("model.safetensors")).expect("read").into());
    let embedded = Checkpoint::from_static("default model", bytes).expect("sound");
    assert_eq!(embedded.dtype_summary(), format!("F16 ({})", embedded.index().len()));
    let file = Checkpoint::open(&golden("vit_f16"), false).expect("opens");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for name in file.index().keys() {
                    assert_eq!(file.read(name).expect(name), embedded.read(name).expect(name));
                }
            });
        }
    });
    model_error(Checkpoint::from_static("default model", b"GGUF"), &["default model"]);
}

// ---------------------------------------------------------------- goldens: recipes

#[test]
fn positions_resample_as_torch_does() {
    let path = golden("pos_interp").join("golden.safetensors");
    let checkpoint = Checkpoint::open(&path, false).expect("golden");
    let mut cases = 0;
    for (name, shape) in checkpoint.index() {
        let Some(case) = name.strip_prefix("out.") else { continue };
        let (filter, size) = case.split_once('.').expect("out.<filter>.<rows>x<columns>");
        let (rows, columns) = size.split_once('x').expect("rows x columns");
        let to = [rows.parse().expect("rows"), columns.parse().expect("columns")];
        let filter = match filter {
            "noaa" => PositionFilter::Bicubic,
            "aa" => PositionFilter::BicubicAntialias,
            other => panic!("a filter this test does not know: {other}"),
        };
        let transform = Transform::Positions { prefix: 0, from: [6, 6], to, filter };
        let weight = Weight::transformed("in.grid6x6", transform);
        let got = materialise(&weight, Shape::new(&[to[0] * to[1], 10]), &checkpoint).expect(name);
        assert_eq!(shape.elements(), got.shape().elements());
        assert_close(&got.to_f32(), &values(&checkpoint, name), 2e-6, name);
        cases += 1;
    }
    assert_eq!(cases, 10);
}

#[test]
fn positions_keep_their_prefix() {
    let path = golden("pos_interp").join("golden.safetensors");
    let source = Checkpoint::open(&path, false).expect("golden");
    let grid = values(&source, "in.grid6x6");
    let mut table = vec![7.0; 10];
    table.extend([8.0; 10]);
    table.extend(&grid);
    let folder = Folder::with(&[("model.safetensors", &sound(&[("pos", &[1, 38, 10], &table)]))]);
    let checkpoint = folder.open().expect("opens");
    let resized = |to: [usize; 2]| {
        let filter = PositionFilter::Bicubic;
        let weight = Weight::transformed("pos", Transform::Positions { prefix: 2, from: [6, 6], to, filter });
        materialise(&weight, Shape::new(&[2 + to[0] * to[1], 10]), &checkpoint)
    };
    let got = resized([9, 7]).expect("resizes").to_f32();
    assert_eq!(got[..20], table[..20]);
    assert_close(&got[20..], &values(&source, "out.noaa.9x7"), 2e-6, "after the prefix");
    assert_eq!(resized([6, 6]).expect("same size").to_f32(), table);
    let filter = PositionFilter::Bicubic;
    let wrong =
        Weight::transformed("pos", Transform::Positions { prefix: 1, from: [6, 6], to: [6, 6], filter });
    model_error(materialise(&wrong, Shape::new(&[37, 10]), &checkpoint), &["`pos`", "1 + 6x6 positions"]);
}

/// PyTorch's bilinear rule, straight from its documentation and in f64: the oracle.
fn bilinear(grid: &dyn Fn(usize, usize) -> f64, from: [usize; 2], to: [usize; 2], at: [usize; 2]) -> f64 {
    let axis = |i: usize, from: usize, to: usize| {
        let x = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let low = x.floor() as usize;
        (low.min(from - 1), (low + 1).min(from - 1), x - low as f64)
    };
    let (y0, y1, ty) = axis(at[0], from[0], to[0]);
    let (x0, x1, tx) = axis(at[1], from[1], to[1]);
    let row = |y: usize| (1.0 - tx) * grid(y, x0) + tx * grid(y, x1);
    (1.0 - ty) * row(y0) + ty * row(y1)
}

#[test]
fn relative_bias_is_the_table_looked_up_by_displacement() {
    const HEADS: usize = 3;
    for (from, to) in
        [([4, 4], [4, 4]), ([4, 4], [6, 5]), ([4, 4], [2, 3]), ([1, 1], [2, 2]), ([2, 3], [3, 2])]
    {
        let [rows, columns] = [2 * from[0] - 1, 2 * from[1] - 1];
        let count = rows * columns + 3;
        let table: Vec<f32> = (0..count * HEADS).map(|i| ((i * 7919) % 101) as f32 / 50.0 - 1.0).collect();
        let file = sound(&[("table", &[count, HEADS], &table)]);
        let folder = Folder::with(&[("model.safetensors", &file)]);
        let weight = Weight::transformed("table", Transform::RelativeBias { from, to });
        let tokens = to[0] * to[1] + 1;
        let got = materialise(&weight, Shape::new(&[HEADS, tokens, tokens]), &folder.open().expect("opens"));
        let got = got.expect("expands").to_f32();
        for head in 0..HEADS {
            let entry = |i: usize| f64::from(table[i * HEADS + head]);
            // transformers reads the table as (2w-1, 2h-1); the same thing for square windows.
            let grid = |y: usize, x: usize| entry(y * rows + x);
            for q in 0..tokens {
                for k in 0..tokens {
                    let want = match (q, k) {
                        (0, 0) => entry(count - 1),
                        (0, _) => entry(count - 3),
                        (_, 0) => entry(count - 2),
                        _ => {
                            let (q, k) = (q - 1, k - 1);
                            let y = q / to[1] + to[0] - 1 - k / to[1];
                            let x = q % to[1] + to[1] - 1 - k % to[1];
                            bilinear(&grid, [columns, rows], [2 * to[0] - 1, 2 * to[1] - 1], [y, x])
                        }
                    };
                    let got = f64::from(got[(head * tokens + q) * tokens + k]);
                    let ok = (got - want).abs() <= 1e-6;
                    assert!(ok, "{from:?} to {to:?}, head {head}, query {q}, key {k}: {got} and not {want}");
                }
            }
        }
    }
    let beit = Checkpoint::open(&golden("beit"), true).expect("opens");
    let name = beit.index().keys().find(|n| n.ends_with("bias_table")).expect("a table").clone();
    let weight = Weight::transformed(name, Transform::RelativeBias { from: [5, 4], to: [4, 4] });
    model_error(materialise(&weight, Shape::new(&[3, 17, 17]), &beit), &["[52,3]", "5x4 window"]);
}

#[test]
fn recipes_join_slice_fill_and_transpose() {
    let numbers: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let file =
        sound(&[("m", &[3, 4], &numbers), ("v", &[1, 1, 4], &[9.0; 4]), ("conv", &[2, 3, 1, 2], &numbers)]);
    let folder = Folder::with(&[("model.safetensors", &file)]);
    let checkpoint = folder.open().expect("opens");
    let make = |weight: Weight, dims: &[usize]| materialise(&weight, Shape::new(dims), &checkpoint);
    let joined = Weight::joined([Weight::rows("m", 1..3), Weight::zeros(1), Weight::tensor("v")]);
    let mut want = numbers[4..].to_vec();
    want.extend([0.0; 4]);
    want.extend([9.0; 4]);
    assert_eq!(make(joined, &[4, 4]).expect("joins").to_f32(), want);
    let transposed =
        make(Weight::transformed("m", Transform::Transpose), &[4, 3]).expect("transposes").to_f32();
    assert_eq!(transposed, [0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]);
    assert_eq!(make(Weight::tensor("conv"), &[2, 6]).expect("rows of a kernel").to_f32(), numbers);
    assert_eq!(make(Weight::tensor("v"), &[4]).expect("a row as a vector").to_f32(), [9.0; 4]);
    assert_eq!(make(Weight::zeros(2), &[2, 3]).expect("zeros").to_f32(), [0.0; 6]);

    let part = Part::Tensor { name: "m".into(), rows: Some(1..2), transform: Transform::Transpose };
    assert_eq!(make(Weight { parts: vec![part] }, &[1, 3]).expect("a column").to_f32(), [1., 5., 9.]);

    model_error(make(Weight::rows("m", 2..4), &[2, 4]), &["`m`", "rows 2..4"]);
    #[expect(clippy::reversed_empty_ranges, reason = "a recipe may be that wrong")]
    let backwards = Weight::rows("m", 2..1);
    model_error(make(backwards, &[1, 4]), &["`m`"]);
    model_error(make(Weight::zeros(usize::MAX), &[2, 3]), &["rows"]);
    model_error(make(Weight { parts: vec![] }, &[1]), &["no elements"]);
    model_error(make(Weight::transformed("conv", Transform::Transpose), &[12]), &["only a matrix"]);
    let filter = PositionFilter::Bilinear;
    let huge = Transform::Positions { prefix: 0, from: [usize::MAX, 2], to: [1, 1], filter };
    model_error(make(Weight::transformed("m", huge), &[1, 4]), &["positions"]);
    let huge = Transform::RelativeBias { from: [usize::MAX, 2], to: [1, 1] };
    model_error(make(Weight::transformed("m", huge), &[1, 4]), &["window"]);
    let joined_wrong = Weight::joined([Weight::tensor("m"), Weight::tensor("m")]);
    model_error(make(joined_wrong, &[5, 4]), &["m+m gives 6 rows", "needs 5"]);
}

#[test]
fn kernels_are_reordered_standardised_and_folded() {
    let numbers: Vec<f32> = (0..8).map(|x| x as f32).collect();
    let file = sound(&[
        ("k", &[2, 2, 1, 2], &numbers),
        ("gain", &[2], &[2.0, 3.0]),
        ("bias", &[2], &[0.5, -1.0]),
        ("mean", &[2], &[1.0, 4.0]),
        ("variance", &[2], &[3.0, 8.0]),
        ("odd", &[3], &[1.0; 3]),
        ("book", &[2, 2], &[3.0, 4.0, 0.0, 0.0]),
    ]);
    let folder = Folder::with(&[("model.safetensors", &file)]);
    let checkpoint = folder.open().expect("opens");
    let make = |weight: Weight, dims: &[usize]| materialise(&weight, Shape::new(dims), &checkpoint);
    let of = |name: &str, transform: Transform| Weight::transformed(name, transform);
    // Places of the kernel outside, channels inside.
    assert_eq!(
        make(of("k", Transform::Taps), &[2, 4]).expect("is made").to_f32(),
        [0., 2., 1., 3., 4., 6., 5., 7.]
    );
    let standard = make(of("k", Transform::StandardTaps(0.0.into())), &[2, 4]).expect("is made").to_f32();
    let side = |x: f32| (x - 1.5) / 1.25f32.sqrt();
    let want: Vec<f32> = [0., 2., 1., 3., 0., 2., 1., 3.].map(side).to_vec();
    assert!(standard.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6), "{standard:?}");
    assert_eq!(
        make(of("book", Transform::UnitRows), &[2, 2]).expect("is made").to_f32(),
        [0.6, 0.8, 0.0, 0.0]
    );
    assert_eq!(
        make(of("book", Transform::HalfSquares { width: 2 }), &[2]).expect("is made").to_f32(),
        [12.5, 0.0]
    );

    let norm = |gain: &str| BatchNorm {
        gain: gain.into(),
        bias: "bias".into(),
        mean: "mean".into(),
        variance: "variance".into(),
        eps: 1.0.into(),
    };
    let taps = |gain| Weight { parts: vec![Part::NormedTaps { kernel: "k".into(), norm: norm(gain) }] };
    let offset = |gain| Weight { parts: vec![Part::NormedBias { norm: norm(gain) }] };
    assert_eq!(make(taps("gain"), &[2, 4]).expect("is made").to_f32(), [0., 2., 1., 3., 4., 6., 5., 7.]);
    assert_eq!(make(offset("gain"), &[2]).expect("is made").to_f32(), [-0.5, -5.0]);

    model_error(make(of("bias", Transform::Taps), &[2, 1]), &["`bias`", "not a convolution kernel"]);
    model_error(make(of("k", Transform::Taps), &[2, 5]), &["`k`", "[2,5]"]);
    model_error(make(of("book", Transform::HalfSquares { width: 3 }), &[2]), &["rows of 3"]);
    model_error(make(taps("odd"), &[2, 4]), &["`odd`", "[2]"]);
    model_error(make(offset("gone"), &[2]), &["`gone`", "missing"]);
    model_error(make(offset("odd"), &[2]), &["`odd`"]);
}

// ---------------------------------------------------------------- properties

fn open_bytes(bytes: &[u8]) -> Result<Checkpoint, Error> {
    let folder = Folder::new();
    let path = folder.put("model.safetensors", bytes);
    Checkpoint::open(&path, false)
}

/// Accepting means agreeing with the crate, and being able to read everything of a readable type.
fn agrees_with_the_crate(bytes: &[u8]) {
    let folder = Folder::new();
    let path = folder.put("model.safetensors", bytes);
    let Ok(checkpoint) = Checkpoint::open(&path, false) else { return };
    for name in checkpoint.index().keys() {
        if let Err(e) = checkpoint.read(name) {
            assert!(e.to_string().contains("elements of type"), "{e}");
        }
    }
    match SafeTensors::deserialize(bytes) {
        Ok(oracle) => {
            for (name, shape) in checkpoint.index() {
                let view = oracle.tensor(name).expect("the crate has it too");
                assert_eq!(view.shape(), shape.dims());
            }
        }
        // The one thing accepted beyond the crate: element types it does not know.
        Err(e) => assert!(e.to_string().contains("unknown variant"), "accepted, but the crate says {e}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = open_bytes(&bytes);
    }

    #[test]
    fn any_header_text_gives_an_answer(header in "[\\{\\}\\[\\]\":,a-z0-9.-]{0,80}", data in 0usize..16) {
        agrees_with_the_crate(&raw(format!("{{{header}}}"), &vec![0; data]));
    }

    #[test]
    fn any_flipped_byte_gives_an_answer(at in 0usize..400, value in any::<u8>()) {
        let mut file = sound(&[("a.b", &[2, 2], &[1.0; 4]), ("c", &[0], &[]), ("d", &[], &[5.0])]);
        let at = at % file.len();
        file[at] = value;
        agrees_with_the_crate(&file);
    }

    #[test]
    fn any_offsets_give_an_answer(
        shape in prop::collection::vec(prop_oneof![0u64..5, any::<u64>()], 0..6),
        from in prop_oneof![0u64..40, any::<u64>()],
        to in prop_oneof![0u64..40, any::<u64>()],
        dtype in prop_oneof![Just("F32"), Just("BF16"), Just("F4"), Just("I64"), Just("NEW")],
        data in 0usize..40,
    ) {
        let header = format!("{{{}}}", entry("x", dtype, &format!("{shape:?}"), &format!("[{from},{to}]")));
        agrees_with_the_crate(&raw(header, &vec![0; data]));
    }
}
