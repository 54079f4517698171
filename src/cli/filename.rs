//! What names of files mean to a system: which are none, which Windows takes for devices, and how paths are
//! written for people.

use std::path::Path;

use crate::error::{Error, Result};

/// Refuses `-`, which other programs take for standard output.
///
/// # Errors
/// [`Error::Usage`].
pub(crate) fn check_name(path: &Path) -> Result<()> {
    if path.as_os_str() == "-" {
        let help = if cfg!(windows) {
            "without a file it is standard output, which can be sent on with `>`; CON is the console, .\\- a file"
        } else {
            "/dev/stdout is standard output, and ./- a file of that name"
        };
        return Err(Error::usage("`-` is not the name of a file", help));
    }
    if cfg!(windows) && is_reserved(path) && !is_device_of_windows(path) {
        let what = format!("Windows takes {} for a device, whatever its extension", plain(path));
        return Err(Error::usage(what, "take another name"));
    }
    Ok(())
}

/// Whether Windows means a device by this name, with an extension or without: `nul`, `con.png`, `COM1.txt`.
fn is_reserved(path: &Path) -> bool {
    let name = path.to_str().and_then(|p| p.rsplit(['/', '\\', ':']).next()).unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default().trim_end_matches(' ').to_ascii_uppercase();
    let numbered = |kind: &str| {
        let number = stem.strip_prefix(kind).map(|rest| rest.chars().collect::<Vec<_>>());
        number.is_some_and(|n| matches!(n[..], ['0'..='9' | '¹' | '²' | '³']))
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || numbered("COM")
        || numbered("LPT")
}

/// Whether Windows means a device by this name, and so does whoever wrote it: it has no extension.
pub(super) fn is_device_of_windows(path: &Path) -> bool {
    is_reserved(path) && path.extension().is_none()
}

/// A path as people write it: without the `\\\\?\\` that Windows puts before one that it made canonical.
pub(super) fn plain(path: &Path) -> String {
    let text = path.display().to_string();
    match (text.strip_prefix(r"\\?\UNC\"), text.strip_prefix(r"\\?\")) {
        (Some(share), _) => format!(r"\\{share}"),
        (None, Some(rest)) => rest.to_owned(),
        (None, None) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_windows_takes_for_devices() {
        for name in
            ["nul", "NUL.png", "con.png", "out/Con .txt", "a\\aux.json", "COM1.txt", "lpt².md", "conout$"]
        {
            assert!(is_reserved(Path::new(name)), "{name}");
        }
        for name in ["null.png", "icon.png", "com.txt", "com10.txt", "lpt", "a.nul", "nul/a.png", "été.png"]
        {
            assert!(!is_reserved(Path::new(name)), "{name}");
        }
        assert!(is_device_of_windows(Path::new("NUL")) && !is_device_of_windows(Path::new("nul.png")));
        assert_eq!(plain(Path::new(r"\\?\C:\a\b")), r"C:\a\b");
        assert_eq!(plain(Path::new(r"\\?\UNC\server\share")), r"\\server\share");
        assert_eq!(plain(Path::new("/a/b")), "/a/b");
    }
}
