//! Changes of an index, interruptions and damages.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::search::disk::{IMAGES, PARTS};

fn maker(weights: &str) -> Maker {
    Maker {
        model: format!("model of {weights}"),
        weights: weights.to_owned(),
        output: "embedding".to_owned(),
        preprocessing: "none".to_owned(),
    }
}

/// An image of this content.
fn image(path: &str, content: u8, modified_us: i64) -> Image {
    Image { path: path.to_owned(), bytes: 10, modified_us, sha256: format!("{content:064x}") }
}

fn row(content: u8) -> Vec<f32> {
    let angle = f32::from(content) / 100.0;
    vec![angle.cos(), angle.sin()]
}

fn begin(folder: &Path) -> Update {
    Update::begin(folder, maker("a"), false).unwrap()
}

/// An index of images by path and content.
fn made(folder: &Path, images: &[(&str, u8)]) -> (Index, Changes) {
    let mut update = begin(folder);
    for (path, content) in images {
        update.add(image(path, *content, 0), row(*content)).unwrap();
    }
    update.finish().unwrap()
}

/// Paths and contents, read from the rows.
fn contents(index: &Index) -> Vec<(String, u8)> {
    let one = |i: usize| {
        let row = index.rows(i..i + 1).unwrap();
        (index.image(i).unwrap().path, (row[1].atan2(row[0]) * 100.0).round() as u8)
    };
    (0..index.len()).map(one).collect()
}

fn owned(list: &[(&str, u8)]) -> Vec<(String, u8)> {
    list.iter().map(|(path, content)| ((*path).to_owned(), *content)).collect()
}

#[test]
fn added_changed_moved_and_vanished() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("index");
    let (index, changes) = made(&folder, &[("/b", 2), ("/a", 1), ("/c", 3), ("/d", 4)]);
    assert_eq!(changes, Changes { added: 4, ..Changes::default() });
    assert_eq!(contents(&index), owned(&[("/a", 1), ("/b", 2), ("/c", 3), ("/d", 4)]));
    drop(index);

    let mut update = begin(&folder);
    assert!(update.is_current("/a", 10, 0) && !update.is_current("/a", 10, 1));
    assert!(!update.is_current("/b", 11, 0) && !update.is_current("/x", 10, 0));
    // /b has another content, /c became /e, /d is gone, /a was touched, /f is new.
    update.add(image("/b", 9, 5), row(9)).unwrap();
    assert!(update.adopt(image("/e", 3, 7)) && update.adopt(image("/a", 1, 8)));
    assert!(!update.adopt(image("/f", 6, 0)) && update.knows(&format!("{:064x}", 9)));
    update.add(image("/f", 6, 0), row(6)).unwrap();
    update.forget_all(&|path| ["/c", "/d"].contains(&path));
    let (index, changes) = update.finish().unwrap();
    let want = Changes { added: 1, changed: 1, moved: 1, unchanged: 2, vanished: 1, resumed: 0 };
    assert_eq!(changes, want);
    assert_eq!(contents(&index), owned(&[("/a", 1), ("/b", 9), ("/e", 3), ("/f", 6)]));
    assert_eq!(index.image(0).unwrap().modified_us, 8);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "no draft is left");

    // The same images make the same bytes, by whatever way.
    let other = home.path().join("other");
    let (_, _) = made(&other, &[("/f", 6), ("/e", 3)]);
    let mut update = begin(&other);
    update.add(image("/b", 9, 5), row(9)).unwrap();
    update.add(image("/a", 1, 8), row(1)).unwrap();
    assert!(update.adopt(image("/e", 3, 7)));
    drop(update.finish().unwrap());
    for name in [EMBEDDINGS, IMAGES] {
        assert_eq!(fs::read(folder.join(name)).unwrap(), fs::read(other.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn nothing_to_do_writes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("index");
    made(&folder, &[("/a", 1)]);
    let before = fs::metadata(folder.join(EMBEDDINGS)).unwrap().modified().unwrap();
    let mut update = begin(&folder);
    assert!(update.is_current("/a", 10, 0));
    let (_, changes) = update.finish().unwrap();
    assert_eq!(changes, Changes { unchanged: 1, ..Changes::default() });
    assert_eq!(fs::metadata(folder.join(EMBEDDINGS)).unwrap().modified().unwrap(), before);
    // All gone is more likely a disk that is not there.
    let mut update = begin(&folder);
    update.forget_all(&|_| true);
    assert!(update.finish().unwrap_err().message().contains("left as it is"));
    assert_eq!(contents(&Index::open(&folder).unwrap()), owned(&[("/a", 1)]));
}

#[test]
fn an_interrupted_run_leaves_the_old_index_and_its_parts() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("index");
    made(&folder, &[("/a", 1), ("/b", 2)]);
    let mut update = begin(&folder);
    update.add(image("/c", 3, 0), row(3)).unwrap();
    update.keep().unwrap();
    update.add(image("/b", 4, 1), row(4)).unwrap();
    update.keep().unwrap();
    update.add(image("/d", 5, 0), row(5)).unwrap();
    // As if it were killed: nothing of it runs any more, but the system lets go of the lock.
    drop(update._lock.take());
    mem::forget(update);
    fs::create_dir(draft_of(&folder, "index")).unwrap();
    fs::write(draft_of(&folder, "index").join(IMAGES), "half").unwrap();
    assert_eq!(contents(&Index::open(&folder).unwrap()), owned(&[("/a", 1), ("/b", 2)]));

    let mut update = begin(&folder);
    assert!(update.is_current("/c", 10, 0) && update.is_current("/b", 10, 1));
    assert!(!update.is_current("/d", 10, 0), "it was in memory only");
    let (index, changes) = update.finish().unwrap();
    assert_eq!((changes.resumed, changes.added), (2, 0));
    assert_eq!(contents(&index), owned(&[("/a", 1), ("/b", 4), ("/c", 3)]));
    assert!(!folder.join(PARTS).exists());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "no draft is left");
}

#[test]
fn a_first_run_that_was_interrupted_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("index");
    let mut update = begin(&folder);
    update.add(image("/a", 1, 0), row(1)).unwrap();
    update.keep().unwrap();
    drop(update);
    let e = Index::open(&folder).unwrap_err();
    assert!(e.message().contains("begun and is not done"), "{e}");
    let (index, changes) = begin(&folder).finish().unwrap();
    assert_eq!((contents(&index), changes.resumed), (owned(&[("/a", 1)]), 1));
    // And of one that kept nothing nothing is left.
    let other = home.path().join("other");
    drop(begin(&other));
    assert!(!other.exists());
}

#[test]
fn another_maker_is_refused_unless_anew() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("index");
    made(&folder, &[("/a", 1)]);
    let e = Update::begin(&folder, maker("b"), false).unwrap_err();
    assert!(matches!(&e, Error::Model { help: Advice::IndexOther, .. }), "{e}");
    assert!(e.message().contains("the weights differ"), "{e}");
    // An interrupted change of model: the old one is still there, and what was done counts.
    let mut update = Update::begin(&folder, maker("b"), true).unwrap();
    assert!(!update.is_current("/a", 10, 0) && !update.knows(&format!("{:064x}", 1)));
    update.add(image("/a", 2, 0), row(2)).unwrap();
    update.keep().unwrap();
    drop(update);
    assert_eq!(contents(&Index::open(&folder).unwrap()), owned(&[("/a", 1)]));
    let mut update = Update::begin(&folder, maker("b"), true).unwrap();
    assert!(update.is_current("/a", 10, 0));
    let (index, _) = update.finish().unwrap();
    assert_eq!((contents(&index), index.maker().weights.as_str()), (owned(&[("/a", 2)]), "b"));
    let mut anew = Update::begin(&folder, maker("b"), true).unwrap();
    assert!(!anew.is_current("/a", 10, 0));
}

#[test]
fn damage_is_told_of_and_nothing_is_lost() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("index");
    made(&folder, &[("/a", 1), ("/b", 2)]);
    let whole = [EMBEDDINGS, IMAGES].map(|name| fs::read(folder.join(name)).unwrap());
    let restore = || {
        fs::write(folder.join(EMBEDDINGS), &whole[0]).unwrap();
        fs::write(folder.join(IMAGES), &whole[1]).unwrap();
    };
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let damages: [(&str, Vec<u8>); 6] = [
        (EMBEDDINGS, whole[0][..whole[0].len() - 1].to_vec()),
        (EMBEDDINGS, whole[0][..4].to_vec()),
        (EMBEDDINGS, Vec::new()),
        (EMBEDDINGS, flipped(&whole[0], 9)),
        (IMAGES, flipped(&whole[1], 12)),
        (IMAGES, whole[1][..whole[1].len() - 1].to_vec()),
    ];
    for (i, (name, bytes)) in damages.iter().enumerate() {
        restore();
        fs::write(folder.join(name), bytes).unwrap();
        for e in [Index::open(&folder).unwrap_err(), Update::begin(&folder, maker("a"), false).unwrap_err()] {
            assert!(matches!(&e, Error::Input { help: Advice::IndexAnew, .. }), "{i}: {e:?}");
            assert!(e.message().contains("the index is damaged"), "{i}: {e}");
        }
        assert_eq!(&fs::read(folder.join(name)).unwrap(), bytes, "{i}: it was touched");
    }
    restore();
    fs::remove_file(folder.join(IMAGES)).unwrap();
    assert!(Index::open(&folder).is_err());
    // Anew is possible.
    let mut update = Update::begin(&folder, maker("a"), true).unwrap();
    update.add(image("/a", 1, 0), row(1)).unwrap();
    assert_eq!(update.finish().unwrap().0.len(), 1);
}

#[test]
fn folders_of_other_things_are_left_alone() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("photo.jpg"), "x").unwrap();
    let e = Update::begin(home.path(), maker("a"), true).unwrap_err();
    assert!(matches!(&e, Error::Usage { what, .. } if what.contains("`photo.jpg`")), "{e}");
    assert!(home.path().join("photo.jpg").exists());
    let e = Update::begin(&home.path().join("no/index"), maker("a"), false).unwrap_err();
    assert!(matches!(e, Error::Write { .. }), "{e}");
}

#[cfg(unix)]
#[test]
fn one_process_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("index");
    let first = begin(&folder);
    let e = Update::begin(&folder, maker("a"), false).unwrap_err();
    assert!(e.message().contains("another process"), "{e}");
    drop(first);
    begin(&folder);
}

#[test]
fn embeddings_are_brought_to_length_one() {
    let home = tempfile::tempdir().unwrap();
    let mut update = begin(&home.path().join("index"));
    update.add(image("/a", 1, 0), vec![3.0, 4.0]).unwrap();
    for bad in [vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0], vec![1.0]] {
        assert!(matches!(update.add(image("/b", 2, 0), bad), Err(Error::Input { .. })));
    }
    let (index, _) = update.finish().unwrap();
    assert_eq!(index.rows(0..1).unwrap(), [0.6, 0.8]);
}
