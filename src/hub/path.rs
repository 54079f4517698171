//! What can only be a path, on every system, as opposed to the name of a hub model.

/// Whether a text means a file or folder and cannot mean a hub model: it begins as a path does, names a drive,
/// has a backslash, or ends as a weights file or a folder does.
pub(super) fn is_path(text: &str) -> bool {
    let begins = ["./", "../", "/", "~"].iter().any(|s| text.starts_with(s));
    let ends = [".safetensors", ".json", ".bin", ".pt", ".pth", "/"].iter().any(|s| text.ends_with(s));
    let drive = matches!(text.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    let address = text.contains("://");
    (begins || ends || drive || text.contains('\\')) && !address && !text.chars().any(char::is_control)
}

/// The path of a file or folder, written so that it means one wherever it is read, and never a hub model.
pub fn as_path(path: &str) -> String {
    if is_path(path) { path.to_owned() } else { format!("./{path}") }
}

/// Whether a text may be the name of a file in this very folder.
pub(super) fn is_file_name(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && !text.contains(['/', '\\', ':', '@'])
        && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_every_system() {
        for path in [
            "./a/b",
            "../a",
            "/a/b",
            "~/models/x",
            "x.safetensors",
            "a/b/",
            "C:\\nowhere\\m",
            "C:/nowhere/m",
            "toys\\nothing",
            "c:m",
            "\\\\server\\share\\m",
            ".\\m",
            "samples\\",
        ] {
            assert!(is_path(path), "{path}");
        }
        for name in ["org/name", "gpt2", "org/name@v1", "https://hub.example/a/b/", "hf://a/b", "", "a/b\n/"]
        {
            assert!(!is_path(name), "{name:?}");
        }
        for (name, is) in
            [("vit", true), ("my model", true), ("a/b", false), ("a@b", false), ("", false), ("a\nb", false)]
        {
            assert_eq!(is_file_name(name), is, "{name:?}");
        }
    }
}
