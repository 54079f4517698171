//! Folders of images by class, as torchvision's ImageFolder reads them: `CLASS/**/IMAGE`, or such folders under
//! `train` and `val`.

use std::fs;
use std::path::{Path, PathBuf};

use super::{ImageSet, Images};
use crate::error::{Error, Result};
use crate::image::EXTENSIONS;
use crate::random::Random;

/// Names of the folder of images to train on, and of those to validate on.
const TRAIN: &[&str] = &["train", "training"];
const HELD_OUT: &[&str] = &["val", "valid", "validation"];

/// Folders below a class that are looked into.
const MAX_DEPTH: usize = 16;

/// The images of a folder: to train on, and to validate on. Where no folder for the latter lies beside `train`, a
/// share `split` of each class (at least one image, where it has two) is kept for it, chosen by `seed`.
///
/// # Errors
/// [`Error::Input`] for a folder that cannot be listed, holds fewer than two classes, or a class without images.
pub fn read_folder(path: &Path, split: f64, seed: u64) -> Result<[ImageSet; 2]> {
    let wrong = |what: String, help: &'static str| Err(Error::input(path.display(), what, help));
    let below = |names: &[&str]| names.iter().map(|name| path.join(name)).find(|folder| folder.is_dir());
    let train = below(TRAIN);
    let root = train.clone().unwrap_or_else(|| path.to_owned());
    let classes = folders(&root)?;
    let names: Vec<String> = classes.iter().map(|folder| name_of(folder)).collect();
    if names.len() < 2 {
        let what = match &names[..] {
            [one] => format!("there is one class, `{one}`, and nothing to tell it from"),
            _ => "there are no folders of classes".to_owned(),
        };
        return wrong(what, "each class is a folder of its images: DATA/cat/1.jpg, or DATA/train/cat/1.jpg");
    }
    let mut files: Vec<Vec<PathBuf>> = Vec::new();
    for (folder, name) in classes.iter().zip(&names) {
        let found = images(folder)?;
        if found.is_empty() {
            return wrong(
                format!("class `{name}` has no images"),
                "remove its folder, or put images into it",
            );
        }
        files.push(found);
    }
    let held_out = match train.and_then(|_| below(HELD_OUT)) {
        Some(folder) => {
            let mut held_out = Vec::new();
            for class in folders(&folder)? {
                let name = name_of(&class);
                let Some(label) = names.iter().position(|known| *known == name) else {
                    let what = format!("{} is of a class that is not trained on", class.display());
                    return wrong(what, "folders to train and to validate on have the same names");
                };
                held_out.extend(images(&class)?.into_iter().map(|file| (file, label as u32)));
            }
            held_out
        }
        None => kept_back(&mut files, split, seed),
    };
    if held_out.is_empty() {
        return wrong("there is nothing to validate on".to_owned(), "keep a share of the images for it");
    }
    let numbered = files.into_iter().enumerate();
    let training =
        numbered.flat_map(|(label, files)| files.into_iter().map(move |file| (file, label as u32)));
    let set = |files| ImageSet { classes: names.clone(), images: Images::Files(files) };
    Ok([set(training.collect()), set(held_out)])
}

/// The images of a folder and below it, whatever their classes: to train on, and to validate on, as [`read_folder`] parts
/// them.
///
/// # Errors
/// [`Error::Input`] for a folder that cannot be listed, or holds fewer than two images.
pub fn read_pictures(path: &Path, split: f64, seed: u64) -> Result<[ImageSet; 2]> {
    let below = |names: &[&str]| names.iter().map(|name| path.join(name)).find(|folder| folder.is_dir());
    let train = below(TRAIN);
    let mut files = [images(train.as_deref().unwrap_or(path))?];
    let held_out = match train.and_then(|_| below(HELD_OUT)) {
        Some(folder) => images(&folder)?.into_iter().map(|file| (file, 0)).collect(),
        None if files[0].is_empty() => vec![],
        None => kept_back(&mut files, split, seed),
    };
    let [training] = files;
    if training.is_empty() || held_out.is_empty() {
        let what =
            format!("there are {} images to train on, {} to validate on", training.len(), held_out.len());
        let help = "name a folder with at least two images, of which a share is kept for validation";
        return Err(Error::input(path.display(), what, help));
    }
    let set = |files| ImageSet { classes: vec![], images: Images::Files(files) };
    Ok([set(training.into_iter().map(|file| (file, 0)).collect()), set(held_out)])
}

/// Takes a share of each class away.
fn kept_back(files: &mut [Vec<PathBuf>], split: f64, seed: u64) -> Vec<(PathBuf, u32)> {
    let mut kept = Vec::new();
    for (label, files) in files.iter_mut().enumerate() {
        let wanted = (split * files.len() as f64).round() as usize;
        let count = if split > 0.0 { wanted.max(1).min(files.len() - 1) } else { 0 };
        Random::of(&[seed, label as u64]).shuffle(files);
        kept.extend(files.drain(..count).map(|file| (file, label as u32)));
        files.sort();
    }
    kept.sort();
    kept
}

fn name_of(folder: &Path) -> String {
    folder.file_name().map_or(String::new(), |name| crate::printable::printable(&name.to_string_lossy()))
}

/// What lies in a folder, by name; hidden things are left out.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e: std::io::Error| {
        Error::input(folder.display(), format!("cannot be listed: {e}"), "check the path and its permissions")
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// The first image in a folder or below it, if there is one.
pub(super) fn first_image(folder: &Path) -> Option<PathBuf> {
    images(folder).ok()?.into_iter().next()
}

/// The images in a folder and below it.
fn images(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = waiting.pop() {
        for path in entries(&folder)? {
            let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
            if path.is_dir() {
                // Links may lead in circles.
                if depth < MAX_DEPTH && !path.is_symlink() {
                    waiting.push((path, depth + 1));
                }
            } else if extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str())) && path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    fn files(set: &ImageSet) -> Vec<(String, u32)> {
        let Images::Files(files) = &set.images else { panic!() };
        files.iter().map(|(f, l)| (f.file_name().unwrap().to_str().unwrap().to_owned(), *l)).collect()
    }

    #[test]
    fn training_and_validation_beside_each_other() {
        let data = folder(&[
            "train/b/1.png",
            "train/a/2.JPG",
            "train/a/x/3.png",
            "train/a/notes.txt",
            "val/b/4.png",
        ]);
        let [train, val] = read_folder(data.path(), 0.5, 1).unwrap();
        assert_eq!(train.classes, ["a", "b"]);
        let name = |n: &str, l| (n.to_owned(), l);
        assert_eq!(files(&train), [name("2.JPG", 0), name("3.png", 0), name("1.png", 1)]);
        assert_eq!(files(&val), [name("4.png", 1)]);
    }

    #[test]
    fn a_share_of_each_class_is_kept_back() {
        let names: Vec<String> = (0..20).map(|i| format!("{}/{i:02}.png", ["a", "b"][i % 2])).collect();
        let data = folder(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let [train, val] = read_folder(data.path(), 0.2, 1).unwrap();
        assert_eq!((train.len(), val.len()), (16, 4));
        assert!(files(&val).iter().all(|file| !files(&train).contains(file)));
        assert_eq!(files(&val).iter().filter(|(_, label)| *label == 0).count(), 2);
        let again = read_folder(data.path(), 0.2, 1).unwrap();
        assert_eq!(files(&again[1]), files(&val));
        assert_ne!(files(&read_folder(data.path(), 0.2, 2).unwrap()[1]), files(&val));
    }

    #[test]
    fn pictures_need_no_classes() {
        let data = folder(&["1.png", "a/2.png", "a/b/3.jpg", "a/notes.txt", "c/4.png"]);
        let [train, val] = read_pictures(data.path(), 0.25, 1).unwrap();
        assert_eq!((train.len(), val.len(), train.classes.len()), (3, 1, 0));
        assert!(!files(&train).contains(&files(&val)[0]));
        let data = folder(&["train/1.png", "train/a/2.png", "val/3.png"]);
        let [train, val] = read_pictures(data.path(), 0.25, 1).unwrap();
        assert_eq!((train.len(), files(&val)), (2, vec![("3.png".to_owned(), 0)]));
        let refused = |files: &[&str]| read_pictures(folder(files).path(), 0.1, 1).unwrap_err().message();
        assert!(refused(&["1.txt"]).contains("0 images to train on"));
        assert!(refused(&["1.png"]).contains("0 to validate on"));
        assert!(refused(&["train/1.txt", "val/1.png"]).contains("0 images to train on, 1 to"));
    }

    #[test]
    fn what_cannot_be_trained_on() {
        let refused = |files: &[&str]| read_folder(folder(files).path(), 0.1, 1).unwrap_err().message();
        assert!(refused(&["a/1.png"]).contains("one class, `a`"));
        assert!(refused(&["1.png"]).contains("no folders of classes"));
        assert!(refused(&["a/1.png", "b/1.txt"]).contains("class `b` has no images"));
        assert!(refused(&["train/a/1.png", "train/b/1.png", "val/c/1.png"]).contains("not trained on"));
        assert!(
            refused(&["train/a/1.png", "train/b/1.png"]).contains("nothing to validate"),
            "one image each"
        );
        assert!(
            read_folder(Path::new("/nowhere"), 0.1, 1).unwrap_err().message().contains("cannot be listed")
        );
    }
}
