//! The rows, those of most worth first, and the sizes they run on. A row is added here and nowhere else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::Result;

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Set {
    Quick,
    Full,
}

impl Set {
    /// How long all rows together may take.
    pub fn budget(self) -> Duration {
        Duration::from_secs(match self {
            Set::Quick => 180,
            Set::Full => 480,
        })
    }
}

/// How large what is run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scale {
    Real,
    Tiny,
}

impl Scale {
    pub fn name(self) -> &'static str {
        match self {
            Scale::Real => "real",
            Scale::Tiny => "tiny",
        }
    }

    fn sizes(self) -> &'static Sizes {
        match self {
            Scale::Real => &REAL,
            Scale::Tiny => &TINY,
        }
    }
}

/// Where rows write.
pub struct Places {
    /// The report, which is to be carried away: `@out/` in the commands below.
    pub out: PathBuf,
    /// Models, caches and what else rows hand to each other: `@work/`.
    pub work: PathBuf,
}

/// One row: a program with its arguments.
pub struct Row {
    pub name: String,
    /// How long it may take.
    pub limit: Duration,
    /// How long it may say nothing.
    pub silence: Duration,
    /// Whether python3 runs it, or this program.
    pub python: bool,
    /// Whether it prints items, and leaves out those that `--skip` names.
    pub items: bool,
    pub args: Vec<String>,
    /// What other rows read: where it is not there any more, the row runs again.
    pub makes: Option<PathBuf>,
}

/// A model folder: a size to be written with random weights, or one that is there.
#[derive(Clone, Copy)]
enum Model {
    Size(&'static str),
    Folder(&'static str),
}

/// Rows of token ids: how many, how long, tokens to draw, and the ids to choose from.
type Ids = (usize, usize, usize, u32, u32);

struct Sizes {
    gemm: &'static str,
    large_gemm: &'static str,
    /// Products of a decode step.
    step_gemms: &'static [&'static str],
    vit: &'static str,
    vit_folder: Model,
    batches: &'static str,
    more_batches: &'static str,
    ops_batch: &'static str,
    llamagen: &'static [(&'static str, Model)],
    class: &'static str,
    tokens: &'static str,
    texts: [(&'static str, Model, Ids); 3],
    runs: &'static str,
    /// Of a single op, as an argument.
    ops_runs: &'static str,
    /// Only these recorded models, and of all kernel checks only these.
    goldens: Option<&'static str>,
    kernels: Option<&'static str>,
}

const REAL: Sizes = Sizes {
    gemm: "4096x4096x4096",
    large_gemm: "8192x8192x8192",
    step_gemms: &["2x1024x3072", "2x1024x1024", "2x2816x1024", "2x1024x16384"],
    vit: "vit-b/16",
    vit_folder: Model::Size("vit-b/16"),
    batches: "1,64",
    more_batches: "128,256,512",
    ops_batch: "64",
    llamagen: &[("llamagen-b", Model::Size("llamagen-b")), ("llamagen-l", Model::Size("llamagen-l"))],
    class: "207",
    tokens: "256",
    texts: [
        ("bert", Model::Size("bert-base"), (8, 128, 0, 1000, 30_000)),
        ("gpt2", Model::Size("gpt2"), (1, 512, 64, 0, 50_000)),
        ("t5", Model::Size("t5-base"), (1, 128, 32, 2, 32_000)),
    ],
    runs: "20",
    ops_runs: "",
    goldens: None,
    kernels: None,
};

const TINY: Sizes = Sizes {
    gemm: "64x64x64",
    large_gemm: "96x64x128",
    step_gemms: &["2x64x96"],
    vit: "vit-ti/32",
    vit_folder: Model::Size("vit-ti/32"),
    batches: "1,2",
    more_batches: "3",
    ops_batch: "2",
    llamagen: &[("llamagen-b", Model::Folder("tests/golden/llamagen"))],
    class: "1",
    tokens: "16",
    texts: [
        ("bert", Model::Folder("tests/golden/bert_seqcls"), (2, 12, 0, 5, 100)),
        ("gpt2", Model::Folder("tests/golden/gpt2"), (1, 20, 8, 0, 96)),
        ("t5", Model::Folder("tests/golden/t5_v10"), (1, 12, 6, 2, 100)),
    ],
    runs: "2",
    ops_runs: " --runs 2",
    goldens: Some("vit_"),
    kernels: Some("norm"),
};

/// Programs that print items are heard of this often, compilation of the largest kernel included.
const SILENCE: Duration = Duration::from_secs(12);

/// The rows of a set, in order.
pub fn rows(set: Set, scale: Scale, places: &Places) -> Vec<Row> {
    let mut table = Table { rows: Vec::new(), sizes: scale.sizes(), places };
    table.quick();
    if set == Set::Full {
        table.full();
    }
    table.rows
}

struct Table<'a> {
    rows: Vec<Row>,
    sizes: &'static Sizes,
    places: &'a Places,
}

impl Table<'_> {
    fn quick(&mut self) {
        let Sizes { gemm, vit, batches, llamagen, runs, ops_runs, .. } = *self.sizes;
        self.whole("devices", 15, "devices --format json");
        self.items("kernels", 75, "kernels");
        self.items("gemm-f16", 40, &format!("ops --json --ways --f16{ops_runs} --gemm {gemm}"));
        // First use would measure for two seconds only, and compiling takes most of them.
        self.whole("tune", 40, &format!("tune --synthetic {vit} --dtype f16 -b {batches} --format json"));
        let bench = format!("bench --synthetic {vit} -r {runs} --starts 0 --format json");
        self.whole("vit-f16", 30, &format!("{bench} --dtype f16 -b {batches}"));
        self.llamagen(llamagen[0], "f16");
        let side = gemm.split('x').next().unwrap_or_default();
        self.torch("torch-vit", 45, &format!("gpu_torch.py --vit {vit} --gemm {side} --batches {batches}"));
        self.torch_llamagen(llamagen[0], "float16");
        self.items("gemm-f32", 40, &format!("ops --json --ways{ops_runs} --gemm {gemm}"));
    }

    fn full(&mut self) {
        let Sizes { vit, batches, more_batches, llamagen, runs, ops_runs, ops_batch, .. } = *self.sizes;
        let folder = self.weights(self.sizes.vit_folder);
        for dtype in ["f16", "f32"] {
            let same = format!("{folder} --batch {ops_batch} --dtype {dtype}");
            self.whole(&format!("vit-answers-{dtype}"), 30, &format!("classify {same}"));
            let long = same.replace(&format!(" {dtype}"), &format!(" {}", dtype.replace('f', "float")));
            self.torch(&format!("torch-vit-answers-{dtype}"), 40, &format!("gpu_torch.py --same {long}"));
        }
        let only = self.sizes.goldens.map_or(String::new(), |only| format!(" --only {only}"));
        self.items("goldens", 70, &format!("goldens{only}"));
        let profile = format!("profile --synthetic {vit} --dtype f16 -r {runs} --format json");
        self.whole("vit-profile-1", 20, &format!("{profile} -b 1"));
        let large = format!("{profile} -b {ops_batch} --roofline @out/roofline.svg --trace @out/trace.json");
        self.whole("vit-profile-batch", 30, &large);
        let ops = format!("ops vit-b --json --ways --f16{ops_runs}");
        self.items("vit-ops-1", 40, &ops);
        self.items("vit-ops-batch", 60, &format!("{ops} --batch {ops_batch}"));
        let steps: String = self.sizes.step_gemms.iter().map(|size| format!(" --gemm {size}")).collect();
        self.items("gemm-step", 25, &format!("ops --json --ways --f16{ops_runs}{steps}"));
        let bench = format!("bench --synthetic {vit} -r {runs} --format json");
        self.whole("vit-f32", 30, &format!("{bench} --starts 0 --dtype f32 -b {batches}"));
        self.whole("vit-more", 40, &format!("{bench} --starts 2 --dtype f16 -b {more_batches}"));
        for (name, model, _) in self.sizes.texts {
            self.text(name, model);
        }
        let compiled = format!("gpu_torch.py --vit {vit} --batches {more_batches} --compiled {batches}");
        self.torch("torch-vit-more", 90, &compiled);
        let only = self.sizes.kernels.map_or(String::new(), |only| format!(" --only {only}"));
        self.items("kernels-every", 150, &format!("kernels --every --threads 8{only}"));
        self.llamagen(llamagen[0], "f32");
        self.torch_llamagen(llamagen[0], "float32");
        let folder = Self::folder(llamagen[0].1);
        self.whole(
            "llamagen-b-profile",
            30,
            &format!("profile --generate -m {folder} --dtype f16 -r {runs} --format json"),
        );
        for model in &llamagen[1..] {
            self.llamagen(*model, "f16");
            self.torch_llamagen(*model, "float16");
        }
        let large = self.sizes.large_gemm;
        self.items(
            "gemm-f16-large",
            30,
            &format!("ops --json --ways --contenders --f16{ops_runs} --gemm {large}"),
        );
        self.whole("doctor", 60, "doctor");
    }

    /// An image drawn, behind a row that writes the weights.
    fn llamagen(&mut self, (name, model): (&str, Model), dtype: &str) {
        let folder = self.weights(model);
        let class = self.sizes.class;
        let draw = format!("picture {folder} --class {class} --scale 4 --dtype {dtype}");
        self.whole(&format!("{name}-{dtype}"), 40, &draw);
    }

    fn torch_llamagen(&mut self, (name, model): (&str, Model), dtype: &str) {
        let (folder, Sizes { class, tokens, .. }) = (Self::folder(model), self.sizes);
        let draw = format!(
            "llamagen.py {folder} {class} 4 {tokens} --pictures 3 --runs 3 --warm-up 1 --device auto --dtype {dtype}"
        );
        let short = dtype.replace("loat", "");
        self.torch(&format!("torch-{name}-{short}"), 45, &draw);
    }

    fn text(&mut self, name: &str, model: Model) {
        let folder = self.weights(model);
        let ids = format!("@work/{name}-ids.json");
        for dtype in ["f16", "f32"] {
            let run = format!("text {name} {folder} {ids} 10 --dtype {dtype}");
            self.whole(&format!("{name}-{dtype}"), 30, &run);
        }
        for dtype in ["f16", "f32"] {
            let run = format!("text_models.py {name} {folder} {ids} --runs 10 --device auto");
            let long = dtype.replace('f', "float");
            self.torch(&format!("torch-{name}-{dtype}"), 30, &format!("{run} --dtype {long}"));
        }
    }

    /// The folder of a model, behind a row that writes it, if it has to be written.
    fn weights(&mut self, model: Model) -> String {
        let folder = Self::folder(model);
        if let Model::Size(size) = model {
            let name = format!("{}-weights", size.replace('/', "-"));
            if self.rows.iter().all(|r| r.name != name) {
                self.whole(&name, 30, &format!("checkpoint {size} {folder}"));
                let made = Path::new(&self.place(&folder)).join("config.json");
                self.rows.last_mut().expect("it was pushed").makes = Some(made);
            }
        }
        folder
    }

    fn folder(model: Model) -> String {
        match model {
            Model::Size(size) => format!("@work/{}", size.replace('/', "-")),
            Model::Folder(folder) => folder.to_owned(),
        }
    }

    /// A word of a command, with the places in it, whose names may hold spaces.
    fn place(&self, word: &str) -> String {
        let places = [("@out/", &self.places.out), ("@work/", &self.places.work)];
        let found = places.iter().find_map(|(mark, at)| Some(at.join(word.strip_prefix(mark)?)));
        found.map_or_else(|| word.to_owned(), |path| path.display().to_string())
    }

    fn whole(&mut self, name: &str, seconds: u64, command: &str) {
        self.push(name, seconds, command, Duration::from_secs(seconds), false, false);
    }

    fn items(&mut self, name: &str, seconds: u64, command: &str) {
        self.push(name, seconds, command, SILENCE, false, true);
    }

    fn torch(&mut self, name: &str, seconds: u64, command: &str) {
        let command = format!("{PEERS}{command}");
        self.push(name, seconds, &command, Duration::from_secs(seconds), true, false);
    }

    fn push(
        &mut self,
        name: &str,
        seconds: u64,
        command: &str,
        silence: Duration,
        python: bool,
        items: bool,
    ) {
        let args = command.split(' ').map(|word| self.place(word)).collect();
        let limit = Duration::from_secs(seconds);
        self.rows.push(Row { name: name.to_owned(), limit, silence, python, items, args, makes: None });
    }
}

/// Where PyTorch's programs are.
const PEERS: &str = "benches/peers/python/";

/// Writes what rows read: the same token ids for every engine.
pub fn prepare(scale: Scale, places: &Places) -> Result<()> {
    for (name, _, (rows, width, new, low, high)) in scale.sizes().texts {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            low + ((state >> 33) as u32) % (high - low)
        };
        let ids: Vec<Vec<u32>> = (0..rows).map(|_| (0..width).map(|_| next()).collect()).collect();
        let file = places.work.join(format!("{name}-ids.json"));
        std::fs::write(file, json!({ "ids": ids, "new": new }).to_string())?;
    }
    Ok(())
}
