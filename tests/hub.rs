//! Hub models: names, the cache, and downloads against a server that misbehaves (no GPU, no
//! Internet). Group H of the bad-input list.

#![cfg(feature = "hub")]

#[path = "common/hub_server.rs"]
mod hub_server;
#[path = "hub/proxies.rs"]
mod proxies;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hub_server::{COMMIT, HubServer, Repository, Request, Response, git_sha1, sha256};
use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::error::{Error, Result};
use vit_gpu::hub::download::pull;
use vit_gpu::hub::{
    Cached, HubEnv, HubOptions, Location, ModelId, Notice, Patience, Token, cached, list, locate, resolve,
};

// ---------------------------------------------------------------- helpers

const WEIGHTS: &str = "model.safetensors";

/// A sound safetensors file of `n` f32 values.
fn weights(n: usize) -> Vec<u8> {
    let header = format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":[{n}],\"data_offsets\":[0,{}]}}}}", 4 * n);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend((0..n).flat_map(|i| (i as f32).to_le_bytes()));
    file
}

fn repository() -> Repository {
    Repository::default()
        .file("config.json", "{\"model_type\": \"vit\"}")
        .file("preprocessor_config.json", "{}")
        .file("README.md", "not fetched")
        .file(WEIGHTS, weights(5000))
}

fn id() -> ModelId {
    ModelId::parse("org/name").expect("a name")
}

/// A cache of its own, and options for a server with little patience.
struct Place {
    cache: tempfile::TempDir,
    options: HubOptions,
}

impl Place {
    fn new(endpoint: &str) -> Self {
        let cache = tempfile::tempdir().expect("a folder");
        let env = HubEnv {
            hub_cache: Some(cache.path().to_owned()),
            endpoint: Some(endpoint.to_owned()),
            ..HubEnv::default()
        };
        let patience = Patience {
            attempts: 3,
            first_wait: Duration::from_millis(10),
            longest_wait: Duration::from_secs(2),
            connect: Duration::from_secs(3),
            silence: Duration::from_millis(300),
        };
        Self { cache, options: HubOptions { env, patience, ..HubOptions::default() } }
    }

    fn pull(&self) -> Result<PathBuf> {
        pull(&id(), &self.options, &mut |_, _, _| {})
    }

    fn model(&self) -> PathBuf {
        id().cache_folder(self.cache.path())
    }

    fn blobs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.model().join("blobs")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Nothing that failed may look like something that worked.
    #[track_caller]
    fn has_nothing_final(&self, repository: &Repository) {
        assert!(!self.model().join("refs/main").exists(), "a reference was written");
        assert!(
            !self.blobs().contains(&sha256(repository.content(WEIGHTS))),
            "a partial blob got its final name"
        );
        assert!(matches!(cached(&id(), self.cache.path()), Cached::Missing(_)));
    }

    #[track_caller]
    fn is_complete(&self, repository: &Repository) {
        let Cached::Complete(folder) = cached(&id(), self.cache.path()) else {
            panic!("the cache is not complete")
        };
        for file in ["config.json", "preprocessor_config.json", WEIGHTS] {
            assert_eq!(fs::read(folder.join(file)).expect(file), repository.content(file), "{file}");
        }
        assert!(!folder.join("README.md").exists());
        assert!(self.blobs().iter().all(|b| !b.ends_with(".incomplete")), "{:?}", self.blobs());
        Checkpoint::open(&folder, true).expect("a sound checkpoint");
    }
}

/// A server with a hook, and a place to pull to.
fn with(hook: impl Fn(&Request, usize) -> Option<Response> + Send + Sync + 'static) -> (HubServer, Place) {
    let server = HubServer::start(repository(), hook);
    let place = Place::new(&server.url());
    (server, place)
}

#[test]
fn a_model_of_texts_comes_with_its_tokenizer() {
    let pooling = "{\"pooling_mode_mean_tokens\": true}";
    let repository = || repository().file("vocab.txt", "[UNK]\na").file("1_Pooling/config.json", pooling);
    let server = HubServer::start(repository(), |_, _| None);
    let place = Place::new(&server.url());
    let folder = place.pull().expect("a model");
    place.is_complete(&repository());
    assert_eq!(fs::read_to_string(folder.join("vocab.txt")).expect("a file"), "[UNK]\na");
    assert_eq!(fs::read_to_string(folder.join("1_Pooling/config.json")).expect("a file"), pooling);
}

/// The hook that answers once in a special way, for the weights.
fn first(response: impl Fn(Response) -> Response + Send + Sync + 'static) -> (HubServer, Place) {
    with(move |request, before| {
        let special = request.is_for(WEIGHTS) && before == 0;
        special.then(|| response(repository().answer(request)))
    })
}

#[track_caller]
fn hub_error(result: Result<PathBuf>, needles: &[&str]) -> String {
    let error = result.expect_err("must fail");
    assert!(matches!(error, Error::Hub { .. }), "{error}");
    let text = error.to_string();
    for needle in needles {
        assert!(text.contains(needle), "`{needle}` is not in: {text}");
    }
    text
}

// ---------------------------------------------------------------- names and places

#[test]
fn h1_names_are_checked_before_anything_else() {
    let long = format!("org/{}", "x".repeat(10_000));
    let bad = [
        "../../../etc",
        "a/../b",
        "/abs",
        "C:\\x",
        "a\0b",
        "a/b\0",
        "org/name/extra",
        &long,
        "..",
        "",
        "/",
        "a/",
        "/b",
        "org",
        "a//b",
        ".a/b",
        "a/.b",
        "-a/b",
        "a/b-",
        "a/b.git",
        "a--x/b",
        "a/b--c",
        "a b/c",
        "a/b?x",
        "a/b#x",
        "a/b%2e",
        "ä/b",
        "a/b@",
        "a/b@../x",
        "a/b@x..y",
        "a/b@/x",
        "a/b@x/",
        "a/b@-x",
        "a/b@x y",
        "a/b@.git",
        "a/b@x.lock",
        "a/b@x@y",
        "hf://",
        "hf://a",
        "hf://../x/y",
        "https://huggingface.co/a/b",
        "a/b\n",
    ];
    let endpoint = TcpListener::bind("127.0.0.1:0").expect("a port");
    endpoint.set_nonblocking(true).expect("non-blocking");
    let place = Place::new(&format!("http://{}", endpoint.local_addr().expect("bound")));
    for name in bad {
        let error = ModelId::parse(name).expect_err(name);
        assert!(matches!(error, Error::Usage { .. }), "{name}: {error}");
        assert!(error.to_string().len() < 400 && !error.to_string().contains('\0'));
        let explicit = format!("hf://{}", name.trim_start_matches("hf://"));
        let error = locate(&explicit, &place.options, &mut |_, _, _| {}).expect_err(name);
        assert!(matches!(error, Error::Usage { .. }), "{explicit}: {error}");
    }
    assert!(endpoint.accept().is_err(), "a socket was opened");
    assert_eq!(fs::read_dir(place.cache.path()).expect("the cache").count(), 0);

    for (name, repository, revision) in [
        ("google/vit-base-patch16-224", "google/vit-base-patch16-224", "main"),
        (
            "timm/vit_base_patch14_reg4_dinov2.lvd142m@v1.0",
            "timm/vit_base_patch14_reg4_dinov2.lvd142m",
            "v1.0",
        ),
        ("hf://a/b@refs/pr/3", "a/b", "refs/pr/3"),
    ] {
        let id = ModelId::parse(name).expect(name);
        assert_eq!((id.repository().as_str(), id.revision()), (repository, revision));
        assert_eq!(id.to_string(), name.trim_start_matches("hf://"));
    }
}

#[test]
fn a_path_comes_before_a_name() {
    let place = Place::new("http://127.0.0.1:1");
    let here = tempfile::tempdir().expect("a folder");
    let file = here.path().join("model.safetensors");
    fs::write(&file, weights(1)).expect("written");
    let find = |spec: &str| {
        let options = HubOptions { offline: true, ..place.options.clone() };
        locate(spec, &options, &mut |_, _, _| {})
    };
    let spec = here.path().display().to_string();
    assert_eq!(find(&spec), Ok(Location::Folder(here.path().to_owned())));
    assert_eq!(find(&file.display().to_string()), Ok(Location::File(file)));
    for missing in ["./a/b", "../a/b", "/a/b", "x.safetensors", "a/b/", "~/models/x"] {
        let error = find(missing).expect_err(missing);
        assert!(matches!(&error, Error::Model { what, .. } if what.contains("no such file")), "{error}");
    }
    for missing in ["C:\\nowhere\\m", "C:/nowhere/m", "toys\\nothing"] {
        let error = find(missing).expect_err(missing);
        assert!(matches!(&error, Error::Model { what, .. } if what.contains("no such file")), "{error}");
    }
    let neither = find("vit").expect_err("neither");
    assert!(matches!(&neither, Error::Model { what, .. } if what.contains("org/name")), "{neither}");
    let offline = find("org/name").expect_err("offline");
    assert!(matches!(&offline, Error::Hub { what, .. } if what.contains("no file or folder `org/name`")));
    let address = find("https://huggingface.co/google/vit-base-patch16-224/tree/main").expect_err("a URL");
    assert!(address.to_string().contains("pass `google/vit-base-patch16-224`"), "{address}");
}

#[test]
fn short_names_lead_to_their_organizations() {
    for (short, whole) in [
        ("gpt2", "openai-community/gpt2"),
        ("t5-small", "google-t5/t5-small"),
        ("bert-base-uncased", "google-bert/bert-base-uncased"),
        ("roberta-base", "FacebookAI/roberta-base"),
        ("distilbert-base-uncased", "distilbert/distilbert-base-uncased"),
        ("distilgpt2", "distilbert/distilgpt2"),
        ("gpt2@v1", "openai-community/gpt2@v1"),
    ] {
        assert_eq!(ModelId::parse(short).expect(short).to_string(), whole);
    }
    // transformers keeps them under the names that it was given.
    let place = Place::new("http://127.0.0.1:1");
    let folder = place.cache.path().join("models--gpt2");
    let snapshot = folder.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).expect("made");
    fs::create_dir_all(folder.join("refs")).expect("made");
    fs::write(folder.join("refs/main"), COMMIT).expect("written");
    fs::write(snapshot.join("config.json"), "{\"model_type\": \"gpt2\"}").expect("written");
    fs::write(snapshot.join("tokenizer.json"), "{}").expect("written");
    fs::write(snapshot.join(WEIGHTS), weights(1)).expect("written");
    let options = HubOptions { offline: true, ..place.options.clone() };
    for name in ["gpt2", "openai-community/gpt2"] {
        let found = locate(name, &options, &mut |_, _, _| {}).expect(name);
        assert_eq!(found.path(), snapshot);
    }
}

#[test]
fn h8_where_the_cache_is() {
    let env = |pairs: &[(&str, &str)]| {
        let pairs: Vec<(String, String)> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        HubEnv::from_lookup(move |name| pairs.iter().find(|(k, _)| k == name).map(|(_, v)| v.into()))
    };
    let cache = |pairs: &[(&str, &str)]| env(pairs).cache().map(|p| p.display().to_string());
    let home = ("HOME", "/h");
    let xdg = ("XDG_CACHE_HOME", "/x");
    let hf = ("HF_HOME", "/hf");
    assert_eq!(cache(&[home]), Ok("/h/.cache/huggingface/hub".into()));
    assert_eq!(cache(&[home, xdg]), Ok("/x/huggingface/hub".into()));
    assert_eq!(cache(&[home, xdg, hf]), Ok("/hf/hub".into()));
    assert_eq!(cache(&[home, xdg, hf, ("HF_HUB_CACHE", "/c")]), Ok("/c".into()));
    assert_eq!(cache(&[home, ("HF_HUB_CACHE", "~/c")]), Ok("/h/c".into()));
    assert_eq!(cache(&[home, ("HF_HUB_CACHE", "")]), Ok("/h/.cache/huggingface/hub".into()));
    assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "relative")]), Ok("/h/.cache/huggingface/hub".into()));
    for nowhere in [&[][..], &[("HOME", "")], &[("XDG_CACHE_HOME", "relative")]] {
        let error = cache(nowhere).expect_err("nowhere");
        assert!(matches!(&error, Error::Hub { what, .. } if what.contains("HOME")), "{error}");
        let options = HubOptions { env: env(nowhere), ..HubOptions::default() };
        hub_error(resolve(&id(), &options, &mut |_, _, _| {}), &["HF_HUB_CACHE"]);
    }

    for (value, offline) in
        [("1", true), ("ON", true), ("True", true), ("yes", true), ("0", false), ("", false)]
    {
        assert_eq!(env(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
    }
    assert!(env(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
    let read = env(&[("HF_TOKEN", " hf_secret\n"), ("HF_ENDPOINT", "https://mirror.example/")]);
    assert_eq!(read.endpoint(), "https://mirror.example");
    assert_eq!(read.token(), Ok(Some(Token::new("hf_secret"))));
    assert!(!format!("{read:?}").contains("hf_secret"));
    assert!(env(&[("HF_TOKEN", "two words")]).token().is_err());

    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("token"), "hf_stored\n").expect("written");
    let stored = HubEnv { hf_home: Some(folder.path().to_owned()), ..HubEnv::default() };
    assert_eq!(stored.token(), Ok(Some(Token::new("hf_stored"))));
}

// ---------------------------------------------------------------- reading the cache

#[test]
fn h2_offline_opens_no_socket() {
    let endpoint = TcpListener::bind("127.0.0.1:0").expect("a port");
    endpoint.set_nonblocking(true).expect("non-blocking");
    let mut place = Place::new(&format!("http://{}", endpoint.local_addr().expect("bound")));
    for by_flag in [true, false] {
        place.options.offline = by_flag;
        place.options.env.offline = !by_flag;
        let start = Instant::now();
        hub_error(resolve(&id(), &place.options, &mut |_, _, _| {}), &["org/name", "off", "HF_HUB_OFFLINE"]);
        hub_error(place.pull(), &["org/name", "off"]);
        assert!(start.elapsed() < Duration::from_secs(1));
    }
    assert!(endpoint.accept().is_err(), "a socket was opened");
    assert_eq!(fs::read_dir(place.cache.path()).expect("the cache").count(), 0);
}

#[test]
fn a_cached_model_needs_no_network() {
    let (server, mut place) = with(|_, _| None);
    place.pull().expect("pulled");
    drop(server);
    place.options.offline = true;
    let quiet = &mut |_: &str, _: u64, _: Option<u64>| {};
    let folder = resolve(&id(), &place.options, quiet).expect("cached");
    assert!(folder.ends_with(COMMIT));
    let by_commit = ModelId::parse(&format!("org/name@{COMMIT}")).expect("a name");
    assert_eq!(resolve(&by_commit, &place.options, quiet), Ok(folder.clone()));
    let other = ModelId::parse("org/name@v2").expect("a name");
    hub_error(resolve(&other, &place.options, quiet), &["org/name@v2"]);

    let models = list(place.cache.path());
    assert_eq!(models.len(), 1);
    assert_eq!((models[0].id.to_string(), models[0].complete), ("org/name@main".into(), true));
    assert!(models[0].bytes > 20_000, "{}", models[0].bytes);

    fs::remove_file(folder.join(WEIGHTS)).expect("removed");
    hub_error(resolve(&id(), &place.options, quiet), &["lacks", "safetensors"]);
    fs::write(place.model().join("refs/main"), "../../../etc").expect("written");
    hub_error(resolve(&id(), &place.options, quiet), &["damaged reference"]);
    assert_eq!(list(Path::new("/nonexistent")), []);
}

// ---------------------------------------------------------------- downloads that work

#[test]
fn pull_lays_the_cache_out_as_others_expect() {
    let (server, place) = with(|_, _| None);
    let mut seen: Vec<(String, u64, Option<u64>)> = Vec::new();
    let folder =
        pull(&id(), &place.options, &mut |f, done, all| seen.push((f.into(), done, all))).expect("pulled");
    place.is_complete(&repository());
    assert_eq!(folder, place.model().join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(place.model().join("refs/main")).expect("a reference"), COMMIT);
    let blob = sha256(repository().content(WEIGHTS));
    #[cfg(unix)]
    assert_eq!(fs::read_link(folder.join(WEIGHTS)).expect("a link"), Path::new("../../blobs").join(&blob));
    assert!(place.blobs().contains(&blob));
    let total = repository().content(WEIGHTS).len() as u64;
    assert_eq!(seen.last(), Some(&(WEIGHTS.into(), total, Some(total))));
    assert!(seen.iter().any(|(file, done, _)| file == WEIGHTS && *done == 0));

    let before = server.requests().len();
    place.pull().expect("again");
    assert_eq!(server.requests().len(), before + 1, "only the revision is asked for");
    fs::remove_dir_all(place.model().join("snapshots")).expect("removed");
    place.pull().expect("from the blobs");
    place.is_complete(&repository());
}

#[test]
fn sharded_revisions_and_lone_weights() {
    let index = "{\"weight_map\": {\"a\": \"m-1.safetensors\"}}";
    let sharded = Repository::default()
        .file("config.json", "{}")
        .file("model.safetensors.index.json", index)
        .file("m-1.safetensors", weights(10));
    let server = HubServer::start(sharded, |_, _| None);
    let place = Place::new(&server.url());
    let request = ModelId::parse("org/name@refs/pr/1").expect("a name");
    let folder = pull(&request, &place.options, &mut |_, _, _| {}).expect("pulled");
    Checkpoint::open(&folder, true).expect("sound");
    assert!(server.requests().iter().any(|r| r.path == "/api/models/org/name/revision/refs%2Fpr%2F1"));
    assert_eq!(fs::read_to_string(place.model().join("refs/refs/pr/1")).expect("a reference"), COMMIT);
    assert_eq!(list(place.cache.path())[0].id, request);

    let lone = Repository::default().file("config.json", "{}").file("odd.safetensors", weights(10));
    let server = HubServer::start(lone, |_, _| None);
    Place::new(&server.url()).pull().expect("the only weights");

    let evil = Repository::default()
        .file("config.json", "{}")
        .file("model.safetensors.index.json", "{\"weight_map\": {\"a\": \"../../../x.safetensors\"}}");
    let server = HubServer::start(evil, |_, _| None);
    let place = Place::new(&server.url());
    let error = place.pull().expect_err("a path that leaves");
    assert!(matches!(&error, Error::Model { what, .. } if what.contains("not a plain file name")), "{error}");
    assert!(!place.model().join("refs").exists());
}

#[test]
fn a_generator_in_llamagens_layout() {
    let files = || {
        Repository::default()
            .file("config.json", "{\"dim\": 36}")
            .file("gpt.safetensors", weights(500))
            .file("vq.safetensors", weights(300))
    };
    let server = HubServer::start(files(), |_, _| None);
    let place = Place::new(&server.url());
    let folder = place.pull().expect("a model");
    for (name, content) in &files().0 {
        assert!(fs::read(folder.join(name)).expect("a file") == *content, "{name}");
    }
    assert_eq!(cached(&id(), place.cache.path()), Cached::Complete(folder.clone()));
    fs::remove_file(folder.join("vq.safetensors")).expect("removable");
    assert_eq!(cached(&id(), place.cache.path()), Cached::Missing("lacks vq.safetensors".into()));
}

#[test]
fn repositories_without_usable_weights() {
    let config = || Repository::default().file("config.json", "{}");
    for (repository, needles) in [
        (Repository::default().file("README.md", ""), &["no config.json"][..]),
        (config(), &["no safetensors"]),
        (config().file("pytorch_model.bin", "x"), &["pickle", "pytorch_model.bin", "refs/pr/1"]),
        (
            config().file("a.safetensors", "x").file("b.safetensors", "y"),
            &["2 weight files", "a.safetensors"],
        ),
    ] {
        let server = HubServer::start(repository, |_, _| None);
        let place = Place::new(&server.url());
        hub_error(place.pull(), needles);
        assert!(server.asked_for("pytorch_model.bin").is_empty());
    }
}

// ---------------------------------------------------------------- refusals and troubles

#[test]
fn h3_every_refusal_has_its_own_words() {
    let cases: [(u16, &str, bool, &[&str]); 9] = [
        (404, "", false, &["not found"]),
        (404, "RepoNotFound", false, &["not found", "spelling"]),
        (404, "RevisionNotFound", false, &["no revision `main`"]),
        (401, "", false, &["needs a token", "HF_TOKEN"]),
        (401, "", true, &["does not accept the token"]),
        (401, "GatedRepo", false, &["gated", "accept its terms", "/org/name"]),
        (403, "GatedRepo", true, &["gated"]),
        (403, "", true, &["forbidden"]),
        (418, "", false, &["status 418"]),
    ];
    let mut texts = Vec::new();
    for (status, code, token, needles) in cases {
        let (server, mut place) = with(move |_, _| Some(Response::new(status).header("x-error-code", code)));
        place.options.env.token = token.then(|| Token::new("hf_secret"));
        let start = Instant::now();
        let text = hub_error(place.pull(), needles);
        assert!(!text.contains("hf_secret"), "{text}");
        assert_eq!(server.requests().len(), 1, "{status} is not worth a retry");
        assert!(start.elapsed() < Duration::from_secs(1));
        texts.push(text.replace(&server.url(), ""));
    }
    texts.dedup();
    assert_eq!(texts.len(), 7, "{texts:#?}");

    // The same for a file that the listing promised.
    let (_server, place) =
        with(|r, _| r.is_for(WEIGHTS).then(|| Response::new(404).header("x-error-code", "EntryNotFound")));
    hub_error(place.pull(), &[WEIGHTS, "not in the repository"]);
    place.has_nothing_final(&repository());
}

#[test]
fn h3_slow_down_and_server_trouble_are_retried() {
    for status in [429, 500, 502, 503, 504] {
        let (server, place) = with(move |_, before| (before == 0).then(|| Response::new(status)));
        place.pull().unwrap_or_else(|e| panic!("{status}: {e}"));
        assert_eq!(server.asked_for(WEIGHTS).len(), 2);
        place.is_complete(&repository());

        let (server, place) = with(move |r, _| r.is_for(WEIGHTS).then(|| Response::new(status)));
        hub_error(place.pull(), &[&status.to_string(), "3 attempts"]);
        assert_eq!(server.asked_for(WEIGHTS).len(), 3);
        place.has_nothing_final(&repository());
    }
}

#[test]
fn h3_retry_after_is_heeded_and_bounded() {
    let (_server, place) = first(|_| Response::new(429).header("retry-after", 1));
    let start = Instant::now();
    place.pull().expect("after a second");
    assert!((1.0..3.0).contains(&start.elapsed().as_secs_f32()), "{:?}", start.elapsed());
    let (server, place) = first(|_| Response::new(429).header("retry-after", 86_400));
    let start = Instant::now();
    hub_error(place.pull(), &["86400 s"]);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(server.asked_for(WEIGHTS).len(), 1);
}

#[test]
fn h3_no_connection() {
    let refused = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    hub_error(Place::new(&format!("http://{refused}")).pull(), &["refuses connections"]);
    hub_error(Place::new("http://hub.invalid").pull(), &["hub.invalid", "cannot"]);
    let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = plain.local_addr().expect("bound");
    std::thread::spawn(move || {
        let (mut stream, _) = plain.accept().expect("a connection");
        _ = stream.read(&mut [0; 64]);
        _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    hub_error(Place::new(&format!("https://{address}")).pull(), &["no secure connection", "SSL_CERT_FILE"]);
    for endpoint in ["file:///etc", "ftp://x", "nonsense", "http://", "https://user:pw@host", "http://h/?q"] {
        hub_error(Place::new(endpoint).pull(), &["HF_ENDPOINT"]);
    }
    let mut place = Place::new("https://hub.invalid");
    place.options.env.certificates = Some(place.cache.path().join("none.pem"));
    hub_error(place.pull(), &["certificates", "none.pem"]);
}

#[test]
fn h3_a_hub_that_is_none() {
    for body in ["<html>", "{}", "{\"sha\": \"main\"}", "{\"sha\": \"../../../../tmp/x\"}", "[1"] {
        let (_server, place) = with(move |_, _| Some(Response::new(200).body(body)));
        hub_error(place.pull(), &["org/name", "HF_ENDPOINT"]);
    }
    let (_server, place) =
        with(|_, _| Some(Response { cut_after: Some(5), ..Response::new(200).body("{\"sha\": 1}") }));
    hub_error(place.pull(), &["broke off", "3 attempts"]);
}

// ---------------------------------------------------------------- transfers that break

#[test]
fn h3_a_cut_transfer_is_continued() {
    let (server, place) = first(|answer| Response { cut_after: Some(7000), ..answer });
    place.pull().expect("continued");
    place.is_complete(&repository());
    let asked: Vec<usize> = server.asked_for(WEIGHTS).iter().map(Request::from).collect();
    assert_eq!(asked, [0, 7000]);
}

#[test]
fn h3_a_server_without_ranges_starts_over() {
    let (server, place) = with(|request, before| {
        let whole = || repository().answer(&Request { headers: vec![], ..request.clone() });
        let cut = (before == 0).then_some(7000);
        request.is_for(WEIGHTS).then(|| Response { cut_after: cut, ..whole() })
    });
    place.pull().expect("from the start");
    place.is_complete(&repository());
    assert_eq!(server.asked_for(WEIGHTS).len(), 2);
}

#[test]
fn h3_a_server_that_continues_from_the_wrong_place_starts_over() {
    let (server, place) = with(|request, before| {
        let answer = || repository().answer(request);
        let shifted = || {
            let all = repository().content(WEIGHTS).to_vec();
            let range = format!("bytes 5000-{}/{}", all.len() - 1, all.len());
            let mut answer = Response { body: all[5000..].to_vec(), ..answer() };
            answer.headers.retain(|(name, _)| name != "content-range");
            answer.header("content-range", range)
        };
        match (request.is_for(WEIGHTS), before) {
            (true, 0) => Some(Response { cut_after: Some(7000), ..answer() }),
            (true, 1) => Some(shifted()),
            _ => None,
        }
    });
    place.pull().expect("from the start");
    place.is_complete(&repository());
    let asked: Vec<usize> = server.asked_for(WEIGHTS).iter().map(Request::from).collect();
    assert_eq!(asked, [0, 7000, 0]);
}

#[test]
fn h3_a_download_goes_on_in_the_next_run() {
    let (server, place) = with(|request, before| {
        let bad = request.is_for(WEIGHTS) && before < 3;
        bad.then(|| Response { cut_after: Some(2000), ..repository().answer(request) })
    });
    hub_error(place.pull(), &[WEIGHTS, "3 attempts"]);
    place.has_nothing_final(&repository());
    place.pull().expect("the rest");
    place.is_complete(&repository());
    let asked: Vec<usize> = server.asked_for(WEIGHTS).iter().map(Request::from).collect();
    // The fourth learns the etag, the fifth continues.
    assert_eq!(asked, [0, 2000, 4000, 0, 6000]);
}

#[test]
fn h3_silence_is_a_cut() {
    let (server, place) = first(|answer| Response { stall: Duration::from_secs(2), ..answer });
    let start = Instant::now();
    place.pull().expect("the second time");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    place.is_complete(&repository());
    assert_eq!(server.asked_for(WEIGHTS).len(), 2);

    let (_server, place) = with(|r, _| {
        r.is_for("config.json").then(|| Response { stall: Duration::from_secs(2), ..repository().answer(r) })
    });
    hub_error(place.pull(), &["config.json", "3 attempts"]);
}

#[test]
fn h4_lengths_that_lie() {
    // More promised than sent, and nothing known better: never complete.
    let (_server, place) = with(|r, _| {
        r.is_for("config.json")
            .then(|| Response { content_length: Some(Some(100)), ..repository().answer(r) })
    });
    hub_error(place.pull(), &["config.json", "3 attempts"]);
    place.has_nothing_final(&repository());
    // The server and the hub disagree.
    for n in [10, 1_000_000] {
        let (_server, place) = first(move |answer| Response { content_length: Some(Some(n)), ..answer });
        hub_error(place.pull(), &[WEIGHTS, "the hub lists 20", &format!("offers {n}")]);
        place.has_nothing_final(&repository());
    }
    // No length from the server, and more than the hub lists.
    let (_server, place) = first(|answer| {
        let body = [answer.body.clone(), vec![0; 100]].concat();
        Response { content_length: Some(None), body, ..answer }
    });
    hub_error(place.pull(), &[WEIGHTS, "sends more than"]);
    place.has_nothing_final(&repository());
    assert!(place.blobs().iter().all(|b| !b.ends_with(".incomplete")), "{:?}", place.blobs());
}

#[test]
fn h4_content_that_does_not_check_is_deleted() {
    let (_server, place) = first(|mut answer| {
        answer.body[3000] ^= 1;
        answer
    });
    hub_error(place.pull(), &[WEIGHTS, "SHA-256", "deleted", &sha256(repository().content(WEIGHTS))]);
    place.has_nothing_final(&repository());
    assert!(place.blobs().iter().all(|b| !b.ends_with(".incomplete")), "{:?}", place.blobs());
    place.pull().expect("the next time");
    place.is_complete(&repository());
}

#[test]
fn h4_without_any_length_json_must_be_whole() {
    let (_server, place) = with(|r, _| {
        let answer = || repository().answer(r);
        r.is_for("config.json").then(|| Response {
            content_length: Some(None),
            cut_after: Some(9),
            ..answer()
        })
    });
    hub_error(place.pull(), &["config.json", "not whole JSON"]);
    let (_server, place) = with(|r, _| {
        let answer = || repository().answer(r);
        let quiet = |mut a: Response| {
            a.headers.clear();
            Response { content_length: Some(None), ..a }
        };
        r.path.contains("/resolve/").then(|| quiet(answer()))
    });
    place.pull().expect("no lengths, no etags");
    place.is_complete(&repository());
}

#[test]
fn h4_small_files_are_checked_by_gits_hash() {
    let texts = || repository().file("vocab.txt", "[UNK]\nalpha\nbeta\ngamma\ndelta\n");
    let cut = |response: Response| {
        let kept = response.body.len() * 2 / 3;
        Response { body: response.body[..kept].to_vec(), ..response }
    };
    // Two thirds of it, stated as the whole, or with no length at all; and other bytes of the same length.
    let changed = |mut response: Response| {
        response.body[8] ^= 1;
        response
    };
    for (needle, spoil) in [
        ("deleted", Box::new(cut) as Box<dyn Fn(Response) -> Response + Send + Sync>),
        ("3 attempts", Box::new(move |r| Response { content_length: Some(None), ..cut(r) })),
        ("deleted", Box::new(changed)),
    ] {
        let server =
            HubServer::start(texts(), move |r, _| r.is_for("vocab.txt").then(|| spoil(texts().answer(r))));
        let place = Place::new(&server.url());
        let expected = git_sha1(texts().content("vocab.txt"));
        hub_error(place.pull(), &["vocab.txt", "SHA-1", &expected, needle]);
        place.has_nothing_final(&texts());
        assert!(!place.blobs().contains(&expected));
        assert!(place.blobs().iter().all(|b| !b.ends_with(".incomplete")), "{:?}", place.blobs());
    }
    // One that was accepted before is not accepted again.
    let server = HubServer::start(texts(), |_, _| None);
    let place = Place::new(&server.url());
    fs::create_dir_all(place.model().join("blobs")).expect("made");
    let blob = place.model().join("blobs").join(git_sha1(texts().content("vocab.txt")));
    fs::write(&blob, "[UNK]\nalpha\n").expect("written");
    let folder = place.pull().expect("pulled");
    assert_eq!(fs::read(folder.join("vocab.txt")).expect("a file"), texts().content("vocab.txt"));
}

#[test]
fn other_programs_snapshots_are_completed() {
    let text = "{\"model_type\": \"bert\"}";
    let modules =
        "[{\"path\": \"\", \"type\": \"t.Transformer\"}, {\"path\": \"1_Pooling\", \"type\": \"t.Pooling\"}]";
    let repository = || {
        Repository::default()
            .file("config.json", text)
            .file("tokenizer.json", "{}")
            .file("modules.json", modules)
            .file("1_Pooling/config.json", "{}")
            .file("1_Pooling/README.md", "not fetched")
            .file("2_Other/config.json", "not fetched")
            .file(WEIGHTS, weights(10))
    };
    let server = HubServer::start(repository(), |_, _| None);
    let place = Place::new(&server.url());
    let snapshot = place.model().join("snapshots").join(COMMIT);
    let resolve = |options: &HubOptions| resolve(&id(), options, &mut |_, _, _| {});
    let offline = HubOptions { offline: true, ..place.options.clone() };
    fs::create_dir_all(&snapshot).expect("made");
    fs::create_dir_all(place.model().join("refs")).expect("made");
    fs::write(place.model().join("refs/main"), COMMIT).expect("written");
    for file in ["config.json", WEIGHTS] {
        fs::write(snapshot.join(file), repository().content(file)).expect("written");
    }
    hub_error(resolve(&offline), &["lacks its tokenizer"]);
    // With a tokenizer it can be used; whether there are modules, the hub alone knows.
    fs::write(snapshot.join("tokenizer.json"), "{}").expect("written");
    assert_eq!(resolve(&offline), Ok(snapshot.clone()));
    let said = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&said);
    let mut away = place.options.clone();
    away.env.endpoint = Some("http://hub.invalid".to_owned());
    away.notice = Notice::new(move |text| told.lock().expect("whole").push(text.to_owned()));
    assert_eq!(resolve(&away), Ok(snapshot.clone()));
    let said = said.lock().expect("whole").join("\n");
    assert!(said.contains("may lack tokenizer_config.json") && said.contains("hub.invalid"), "{said}");
    assert_eq!(server.requests().len(), 0);

    assert_eq!(resolve(&place.options), Ok(snapshot.clone()));
    for file in ["modules.json", "1_Pooling/config.json"] {
        assert_eq!(fs::read(snapshot.join(file)).expect(file), repository().content(file));
    }
    assert!(!snapshot.join("1_Pooling/README.md").exists() && !snapshot.join("2_Other").exists());
    // What the repository does not have is noted, and not asked for again.
    assert!(place.model().join(".no_exist").join(COMMIT).join("tokenizer_config.json").is_file());
    let asked = server.requests().len();
    assert_eq!(resolve(&place.options), Ok(snapshot));
    assert_eq!(server.requests().len(), asked);
}

#[test]
fn an_index_beside_a_single_file() {
    let index = format!("{{\"weight_map\": {{\"a\": \"{WEIGHTS}\"}}}}");
    let both = repository().file("model.safetensors.index.json", index.clone());
    let server = HubServer::start(both, |_, _| None);
    let place = Place::new(&server.url());
    let folder = place.pull().expect("pulled");
    fs::write(folder.join("model.safetensors.index.json"), index).expect("written");
    place.is_complete(&repository());
}

#[test]
fn names_are_encoded_and_commits_name_themselves() {
    let odd = || Repository::default().file("config.json", "{}").file("my weights.safetensors", weights(10));
    let nameless = move |r: &Request, _: usize| {
        let mut answer = odd().answer(r);
        let body = String::from_utf8_lossy(&answer.body).replace(&format!("\"sha\":\"{COMMIT}\","), "");
        r.path.starts_with("/api/").then(|| {
            answer.body = body.into_bytes();
            answer
        })
    };
    let server = HubServer::start(odd(), nameless);
    let place = Place::new(&server.url());
    let whole = ModelId::parse(&format!("org/name@{COMMIT}")).expect("a name");
    let folder = pull(&whole, &place.options, &mut |_, _, _| {}).expect("pulled");
    assert!(folder.join("my weights.safetensors").is_file());
    assert!(server.requests().iter().any(|r| r.path.ends_with("/my%20weights.safetensors")));
    hub_error(place.pull(), &["HF_ENDPOINT"]);
    let other = ModelId::parse(&format!("org/name@{}", "f".repeat(40))).expect("a name");
    let server = HubServer::start(odd(), |_, _| None);
    hub_error(pull(&other, &Place::new(&server.url()).options, &mut |_, _, _| {}), &["another commit"]);
}

#[test]
fn waits_are_told() {
    for (name, value) in [("retry-after", "1"), ("RateLimit", "\"resolvers\";r=0;t=1")] {
        let (_server, mut place) = first(move |_| Response::new(429).header(name, value));
        let said = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let told = std::sync::Arc::clone(&said);
        place.options.notice = Notice::new(move |text| told.lock().expect("whole").push(text.to_owned()));
        let start = Instant::now();
        place.pull().expect("after a second");
        assert!(start.elapsed() >= Duration::from_secs(1));
        let said = said.lock().expect("whole");
        assert!(said.len() == 1 && said[0].contains("slow down (429); trying again in 2 s"), "{said:?}");
    }
}

// ---------------------------------------------------------------- redirects

#[test]
fn h5_redirects_that_are_refused() {
    let cases: [(&str, &[&str]); 10] = [
        ("file:///etc/passwd", &["file:///etc/passwd", "only http and https"]),
        ("data:text/plain,x", &["only http and https"]),
        ("ftp://example.com/x", &["only http and https"]),
        ("http://user@example.com/x", &["not a plain address"]),
        ("http://10.0.0.1/x", &["10.0.0.1", "private address"]),
        ("http://169.254.169.254/latest/meta-data?secret=1", &["private address"]),
        ("http://[::1]:80/x", &["private address"]),
        ("//192.168.0.1/x", &["private address"]),
        ("http://localhost:9/x", &["localhost", "private address"]),
        ("http://exa mple.com/", &["not a URL"]),
    ];
    for (to, needles) in cases {
        let (server, place) = with(move |r, _| r.is_for(WEIGHTS).then(|| Response::redirect(to)));
        let text = hub_error(place.pull(), needles);
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(server.asked_for(WEIGHTS).len(), 1);
        place.has_nothing_final(&repository());
    }
    let (server, place) = with(|r, _| r.is_for(WEIGHTS).then(|| Response::redirect(&r.path)));
    hub_error(place.pull(), &["redirects more than 10 times"]);
    assert_eq!(server.asked_for(WEIGHTS).len(), 11);
    let (_server, place) = with(|r, _| r.is_for(WEIGHTS).then(|| Response::new(302)));
    hub_error(place.pull(), &["without saying where"]);
}

#[test]
fn h5_the_token_stays_at_the_hub() {
    // As on the real hub: the listing names the content and sends elsewhere for it. Another port is
    // another origin, and that storage's own etag means nothing.
    let storage = HubServer::start(repository(), |request, _| {
        let mut answer = repository().answer(request);
        answer.headers.retain(|(name, _)| !name.contains("linked"));
        Some(answer.header("etag", "\"0badc0de\""))
    });
    let elsewhere = format!("{}/signed/{WEIGHTS}?signature=s", storage.url());
    let (hub, mut place) = with(move |request, _| {
        if request.is_for(WEIGHTS) {
            let mut answer = repository().answer(request);
            answer.headers.retain(|(name, _)| name.contains("linked"));
            return Some(Response { status: 302, body: vec![], ..answer.header("location", &elsewhere) });
        }
        // Small files are redirected on the same host, relatively.
        let direct = request.path.starts_with("/cache/");
        let small = request.is_for("config.json") && !direct;
        small.then(|| Response { status: 307, ..Response::redirect("/cache/config.json") })
    });
    place.options.env.token = Some(Token::new("hf_secret"));
    place.pull().expect("pulled");
    place.is_complete(&repository());
    assert!(hub.requests().iter().all(|r| r.header("authorization") == Some("Bearer hf_secret")));
    assert!(hub.requests().iter().any(|r| r.path == "/cache/config.json"));
    assert_eq!(storage.requests().len(), 1);
    assert_eq!(storage.requests()[0].header("authorization"), None);
    assert!(place.blobs().contains(&sha256(repository().content(WEIGHTS))));
}

// ---------------------------------------------------------------- the cache as a shared place

#[test]
fn h6_many_at_once() {
    let server = HubServer::start(repository(), |r, _| {
        // Slow enough that all overlap.
        let slow = || Response { stall: Duration::from_millis(100), ..repository().answer(r) };
        r.is_for(WEIGHTS).then(slow)
    });
    let place = Place::new(&server.url());
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4).map(|_| scope.spawn(|| place.pull())).collect();
        for pulled in pulls {
            pulled.join().expect("no panic").expect("every one succeeds");
        }
    });
    place.is_complete(&repository());
}

/// Not a test of its own: what `h6_two_processes_and_a_kill` and `h7_disk_full` run in another process.
#[test]
fn child_pull() {
    let (Ok(endpoint), Ok(cache)) = (std::env::var("TEST_HUB_ENDPOINT"), std::env::var("TEST_HUB_CACHE"))
    else {
        return;
    };
    let mut place = Place::new(&endpoint);
    place.options.env.hub_cache = Some(cache.into());
    place.options.patience.silence = Duration::from_secs(5);
    match place.pull() {
        Ok(folder) => println!("PULLED {}", folder.display()),
        Err(e) => println!("FAILED {e:?}"),
    }
}

fn child(place: &Place, endpoint: &str, wrapper: &[&str]) -> std::process::Command {
    let me = std::env::current_exe().expect("a test has a path").display().to_string();
    let mut words: Vec<&str> = wrapper.to_vec();
    words.extend([me.as_str(), "child_pull", "--exact", "--nocapture"]);
    let mut command = std::process::Command::new(words[0]);
    command.args(&words[1..]).env("TEST_HUB_ENDPOINT", endpoint).env("TEST_HUB_CACHE", place.cache.path());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command
}

#[test]
fn h6_two_processes_and_a_kill() {
    let server = HubServer::start(repository(), |r, before| {
        let wait = if before == 0 { 3000 } else { 50 };
        let slow = || Response { stall: Duration::from_millis(wait), ..repository().answer(r) };
        r.is_for(WEIGHTS).then(slow)
    });
    let place = Place::new(&server.url());
    let mut killed = child(&place, &server.url(), &[]).spawn().expect("starts");
    let start = Instant::now();
    let sha = sha256(repository().content(WEIGHTS));
    let part = || {
        let is_part = |b: &String| b.starts_with(&sha) && b.ends_with(".incomplete");
        let path = place.model().join("blobs").join(place.blobs().into_iter().find(is_part)?);
        path.metadata().is_ok_and(|m| m.len() > 0).then_some(path)
    };
    while part().is_none() && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let other = child(&place, &server.url(), &[]).spawn().expect("starts");
    killed.kill().expect("killed");
    killed.wait().expect("gone");
    let output = other.wait_with_output().expect("ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("PULLED"), "{text}");
    place.pull().expect("and again");
    let Cached::Complete(folder) = cached(&id(), place.cache.path()) else { panic!("not complete") };
    Checkpoint::open(&folder, true).expect("sound");
    // What the killed one left is of no use any more.
    place.is_complete(&repository());
}

#[cfg(unix)]
/// A wrapper under which signals end a program: what a shell starts in the background inherits that SIGINT is
/// ignored, what nohup starts that SIGHUP is.
fn heeding_signals() -> &'static [&'static str] {
    const WRAPPER: &[&str] = &["env", "--default-signal=INT,TERM,HUP"];
    let known = std::process::Command::new(WRAPPER[0]).args([WRAPPER[1], "true"]).output();
    if known.is_ok_and(|output| output.status.success()) { WRAPPER } else { &[] }
}

#[test]
fn h6_a_killed_download_goes_on_at_once() {
    for (attempt, signal) in ["INT", "TERM", "HUP", "KILL"].into_iter().enumerate() {
        let server = HubServer::start(repository(), |r, before| {
            // Longer than a busy machine takes to notice and to kill.
            let slow = || Response { stall: Duration::from_secs(60), ..repository().answer(r) };
            (r.is_for(WEIGHTS) && before == 0).then(slow)
        });
        let place = Place::new(&server.url());
        let sha = sha256(repository().content(WEIGHTS));
        let mut killed = child(&place, &server.url(), heeding_signals()).spawn().expect("starts");
        let start = Instant::now();
        let part = || {
            let names = place.blobs();
            let name = names.iter().find(|b| b.starts_with(&sha) && b.ends_with(".incomplete"))?;
            Some(place.model().join("blobs").join(name)).filter(|p| p.metadata().is_ok_and(|m| m.len() > 0))
        };
        while part().is_none() && start.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let command = format!("kill -{signal} {}", killed.id());
        assert!(std::process::Command::new("sh").args(["-c", &command]).status().expect("sh").success());
        let ended = killed.wait().expect("gone");
        let left =
            part().unwrap_or_else(|| panic!("{signal}, {ended}: nothing left but {:?}", place.blobs()));
        let length = left.metadata().expect("there").len();
        if attempt == 0 {
            // Older ones, of runs before, and one of a blob that nobody asks for any more.
            for (name, days) in
                [(format!("{sha}.{:016x}", 1), 0), (format!("{}.{:016x}", "0".repeat(64), 2), 8)]
            {
                let left = place.model().join("blobs").join(format!("{name}.part.vit-gpu.incomplete"));
                fs::write(&left, [1; 10]).expect("written");
                let old = std::time::SystemTime::now() - Duration::from_secs(days * 24 * 3600);
                fs::File::options().append(true).open(left).expect("open").set_modified(old).expect("aged");
            }
        }
        place.pull().expect("continued");
        place.is_complete(&repository());
        let last = server.asked_for(WEIGHTS).last().expect("asked").from() as u64;
        assert_eq!((signal, last), (signal, length), "it goes on from where it stopped");
    }
}

#[test]
fn h6_a_whole_part_is_only_checked() {
    let (server, place) = with(|_, _| None);
    let blobs = place.model().join("blobs");
    fs::create_dir_all(&blobs).expect("made");
    let content = repository().content(WEIGHTS).to_vec();
    let left = blobs.join(format!("{}.{:016x}.part.vit-gpu.incomplete", sha256(&content), 3));
    fs::write(&left, &content).expect("written");
    place.pull().expect("pulled");
    place.is_complete(&repository());
    assert_eq!(server.asked_for(WEIGHTS).len(), 1);
}

#[test]
fn h6_a_stale_part_that_does_not_fit_is_thrown_away() {
    let (server, place) = with(|_, _| None);
    let blobs = place.model().join("blobs");
    fs::create_dir_all(&blobs).expect("made");
    let sha = sha256(repository().content(WEIGHTS));
    fs::write(blobs.join(format!("{sha}.rest.vit-gpu.incomplete")), vec![7; 3000]).expect("written");
    // Another program's part, written out of order or not, is none of our business.
    fs::write(blobs.join(format!("{sha}.incomplete")), vec![8; 3000]).expect("written");
    place.pull().expect("pulled");
    let asked: Vec<usize> = server.asked_for(WEIGHTS).iter().map(Request::from).collect();
    assert_eq!(asked, [0, 3000, 0]);
    fs::remove_file(blobs.join(format!("{sha}.incomplete"))).expect("still there");
    place.is_complete(&repository());

    // One that is as long as the whole, or longer, is no use either.
    fs::write(blobs.join(format!("{sha}.rest.vit-gpu.incomplete")), vec![7; 50_000]).expect("written");
    fs::remove_file(blobs.join(&sha)).expect("removed");
    fs::remove_dir_all(place.model().join("snapshots")).expect("removed");
    place.pull().expect("pulled");
    place.is_complete(&repository());
}

#[test]
fn h7_a_cache_that_cannot_be_written() {
    let (_server, mut place) = with(|_, _| None);
    let file = place.cache.path().join("file");
    fs::write(&file, "in the way").expect("written");
    // A file in the way and, on Linux, a place where not even root can write.
    let mut places = vec![file];
    if cfg!(target_os = "linux") {
        places.push("/proc/vit-gpu-cache".into());
    }
    for cache in places {
        place.options.env.hub_cache = Some(cache.clone());
        let text = hub_error(place.pull(), &["cannot write the cache", "HF_HUB_CACHE"]);
        assert!(text.contains(&cache.display().to_string()), "{text}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn h7_disk_full() {
    let (server, place) = with(|_, _| None);
    // A file size limit stands in for a full disk: writing fails half-way through the weights.
    let limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""];
    let output = child(&place, &server.url(), &limited).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for needle in ["FAILED Hub", "cannot write the cache", "more bytes are needed", "make room"] {
        assert!(text.contains(needle), "`{needle}` is not in: {text}");
    }
    place.has_nothing_final(&repository());
    assert!(place.blobs().iter().all(|b| !b.ends_with(".incomplete")), "{:?}", place.blobs());
    place.pull().expect("with room");
    place.is_complete(&repository());
}

#[test]
fn cancelling_stops_a_download_and_keeps_its_part() {
    let (server, place) = with(|_, _| None);
    let cancel = place.options.cancel.clone();
    let stop_in_the_weights = &mut |file: &str, done: u64, _: Option<u64>| {
        if file == WEIGHTS && done > 0 {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    // More than one piece long, so that it stops inside.
    let big = Repository::default().file("config.json", "{}").file(WEIGHTS, weights(400_000));
    let big_server = HubServer::start(big.clone(), |_, _| None);
    let mut options = place.options.clone();
    options.env.endpoint = Some(big_server.url());
    assert_eq!(pull(&id(), &options, stop_in_the_weights), Err(Error::Interrupted));
    place.has_nothing_final(&big);
    assert!(place.blobs().iter().any(|b| b.ends_with(".rest.vit-gpu.incomplete")), "{:?}", place.blobs());
    cancel.store(false, Ordering::Relaxed);
    pull(&id(), &options, &mut |_, _, _| {}).expect("the rest");
    assert!(big_server.asked_for(WEIGHTS).last().expect("asked").from() > 0);
    drop(server);
}
