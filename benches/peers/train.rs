//! A training step behind a pipe, for `train.py`: reads commands from standard input, a line each,
//! and answers each with a line.
//!
//! | command | answer |
//! |---|---|
//! | `save NET FILE` | `ok`; initial weights, batch, tunings, and the first step's loss and gradients |
//! | `time NET COUNT` | milliseconds of COUNT steps, after 0.1 s of others |
//! | `time trainer COUNT` | the same of the shipped recipe, with its loader and its losses |
//! | `layer N,C_in,H,W,B,C_out,K,stride,groups COUNT` | milliseconds of COUNT passes, there and back |
//! | `store N,…,groups COUNT` | the part of these that candle's gradient store takes: ones for the output, then zeros for every gradient and its addition to them |
//!
//! NET is `video` or `edsr`; FILE is a safetensors file. A step folds every bank, runs the net,
//! computes the mean squared error and its gradients, and lets the trainer's Adam move the banks.
//! What goes wrong is answered with `error` and the reason.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Module as _, Tensor, Var};
use candle_nn::VarBuilder;
use image::RgbImage;
use mimalloc::MiMalloc;
use tunableconv::nn::conv::conv2d;
use tunableconv::nn::{
    Activation, Chain, ConvGeometry, FoldedConv2d, TensorSpec, TunableConv2d, TunableConv2dConfig,
    TunableNet, VideoNetConfig, chain,
};
use tunableconv_train::batch::{Batches, Pictures};
use tunableconv_train::data::{ImageFolder, Keep};
use tunableconv_train::multi_loss::{DeviceBatch, MultiLoss};
use tunableconv_train::optimiser::{Adam, initial_slots};
use tunableconv_train::recipe::{self, Recipe};

/// As in `tunableconv-train`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// Parameters of the tunings.
const P: usize = 2;
/// Samples of a batch.
const SAMPLES: usize = 16;

/// Super-resolution's residual net at scale 1: Lim et al., "Enhanced Deep Residual Networks for
/// Single Image Super-Resolution", CVPRW 2017.
struct Edsr {
    layers: Vec<TunableConv2d>,
}

impl Edsr {
    const BLOCKS: usize = 8;
    const CHANNELS: usize = 32;

    /// Name, channels and configuration of each layer: head, two a block, body tail, last.
    fn plan() -> Vec<(String, (usize, usize), TunableConv2dConfig)> {
        let count = 2 * Self::BLOCKS + 3;
        let layer = |index: usize| {
            let c_in = if index == 0 { 3 } else { Self::CHANNELS };
            let c_out = if index == count - 1 { 3 } else { Self::CHANNELS };
            let first_of_block = index % 2 == 1 && index < 2 * Self::BLOCKS;
            let activation =
                if first_of_block { Activation::LeakyRelu(0.0) } else { Activation::None };
            let phi = VideoNetConfig::default().phi;
            let config = TunableConv2dConfig { padding: 1, phi, activation, ..Default::default() };
            (format!("layers.{index:02}"), (c_in, c_out), config)
        };
        (0..count).map(layer).collect()
    }

    fn tensors() -> Vec<TensorSpec> {
        // Small, as the sums of eight blocks would grow otherwise.
        let specs = |(name, channels, config): (String, _, TunableConv2dConfig)| {
            config.tensors(&format!("{name}."), P, channels, 3, 0.5)
        };
        Self::plan().into_iter().flat_map(specs).collect()
    }

    fn new(vb: &VarBuilder) -> candle_core::Result<Self> {
        let layer = |(name, (c_in, c_out), config): (String, _, _)| {
            TunableConv2d::new(P, c_in, c_out, 3, config, vb.pp(name))
        };
        Ok(Self { layers: Self::plan().into_iter().map(layer).collect::<Result<_, _>>()? })
    }

    fn forward(&self, x: &Tensor, omega: &Tensor) -> candle_core::Result<Tensor> {
        let folded = self.layers.iter().map(|layer| layer.fold(omega));
        let folded: Vec<FoldedConv2d> = folded.collect::<Result<_, _>>()?;
        let (body, ends) = folded[1..].split_at(2 * Self::BLOCKS);
        let head = folded[0].forward(x)?;
        let mut features = head.clone();
        for block in body.chunks_exact(2) {
            let residual = block[1].forward(&block[0].forward(&features)?)?;
            features = (features + residual)?;
        }
        ends[1].forward(&(ends[0].forward(&features)? + head)?)
    }
}

enum Net {
    Video(Chain),
    Edsr(Edsr),
}

/// A net in training.
struct Trainee {
    net: Net,
    adam: Adam,
    step: u64,
    x: Tensor,
    target: Tensor,
    omega: Tensor,
}

impl Trainee {
    fn new(name: &str) -> Result<Self, Failure> {
        let config = VideoNetConfig::default();
        // Channels, side of the maps, tunings.
        let (specs, shape, sets) = match name {
            "video" => (chain::tensors(&config.chain(), P), (SAMPLES, 6, 32, 32), 4),
            "edsr" => (Edsr::tensors(), (SAMPLES, 3, 48, 48), SAMPLES),
            _ => return Err(format!("no net `{name}`").into()),
        };
        let optimiser = recipe::Optimiser {
            learning_rate: 1e-4,
            final_learning_rate: 1e-4,
            warmup_steps: 0,
            beta1: 0.9,
            beta2: 0.999,
            clip_norm: 1e9,
            ema_decay: 0.999,
        };
        let adam = Adam::new(optimiser, u64::MAX, initial_slots(&specs, 1), &Device::Cpu)?;
        let vb = tensors_of(&adam);
        let net = match name {
            "video" => Net::Video(Chain::new(P, &config.chain(), vb)?),
            _ => Net::Edsr(Edsr::new(&vb)?),
        };
        Ok(Self {
            net,
            adam,
            step: 0,
            x: Tensor::rand(0f32, 1.0, shape, &Device::Cpu)?,
            target: Tensor::rand(0f32, 1.0, shape, &Device::Cpu)?,
            omega: Tensor::rand(0f32, 1.0, (sets, P), &Device::Cpu)?,
        })
    }

    fn loss(&self) -> Result<Tensor, Failure> {
        let y = match &self.net {
            Net::Video(net) => net.fold(&self.omega)?.forward(&self.x)?,
            Net::Edsr(net) => net.forward(&self.x, &self.omega)?,
        };
        Ok((y - &self.target)?.sqr()?.mean_all()?)
    }

    fn step(&mut self) -> Result<(), Failure> {
        let loss = self.loss()?;
        self.adam.step(self.step, &loss.backward()?)?;
        self.step += 1;
        loss.to_scalar::<f32>()?;
        Ok(())
    }

    fn save(&self, file: &str) -> Result<(), Failure> {
        let loss = self.loss()?;
        let gradients = loss.backward()?;
        let mut all = HashMap::from([
            ("x".to_string(), self.x.clone()),
            ("target".to_string(), self.target.clone()),
            ("omega".to_string(), self.omega.clone()),
            ("loss".to_string(), loss.detach()),
        ]);
        for (name, var) in self.adam.vars() {
            let gradient = gradients.get(var).ok_or("a tensor received no gradient")?;
            all.insert(format!("gradient.{name}"), gradient.clone());
            all.insert(format!("value.{name}"), var.as_tensor().clone());
        }
        Ok(candle_core::safetensors::save(&all, file)?)
    }
}

/// One convolution with padding K / 2, all its gradients wanted.
struct Layer {
    x: Var,
    weight: Var,
    bias: Var,
    out: Tensor,
    geometry: ConvGeometry,
}

impl Layer {
    fn new(sizes: &str) -> Result<Self, Failure> {
        let sizes = sizes.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        let &[n, c_in, h, w, sets, c_out, k, stride, groups] = &sizes[..] else {
            return Err("expected nine sizes".into());
        };
        let var = |shape: &[usize]| Var::randn(0f32, 0.1, shape, &Device::Cpu);
        let mut layer = Self {
            x: var(&[n, c_in, h, w])?,
            weight: var(&[sets, c_out, c_in / groups.max(1), k, k])?,
            bias: var(&[sets, c_out])?,
            out: Tensor::zeros((), DType::F32, &Device::Cpu)?,
            geometry: ConvGeometry { stride, padding: k / 2, dilation: 1, groups },
        };
        layer.out = layer.forward()?.detach();
        Ok(layer)
    }

    fn forward(&self) -> Result<Tensor, Failure> {
        let none = Activation::None;
        Ok(conv2d(&self.x, &self.weight, Some(&self.bias), self.geometry, none)?)
    }

    fn pass(&self) -> Result<(), Failure> {
        self.forward()?.backward()?;
        Ok(())
    }

    /// What `backward` does besides the convolution's own.
    fn store(&self) -> Result<(), Failure> {
        self.out.ones_like()?;
        for var in [&self.x, &self.weight, &self.bias] {
            var.zeros_like()?.add(var)?;
        }
        Ok(())
    }
}

/// The shipped recipe in training, from pictures on.
struct Trainer {
    recipe: Arc<Recipe>,
    net: TunableNet,
    adam: Adam,
    multi_loss: MultiLoss,
    batches: Batches,
    step: u64,
}

impl Trainer {
    /// Pictures to cut crops from, and their sides in pixels.
    const PICTURES: (u32, u32) = (8, 512);

    fn new() -> Result<Self, Failure> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let recipe = Arc::new(Recipe::read(&root.join("../benches/peers/train.toml"))?);
        let folder = tempfile::tempdir()?;
        let (count, side) = Self::PICTURES;
        for seed in 0..count {
            let picture = RgbImage::from_fn(side, side, |x, y| {
                let cell = (x / 9 + 57 * (y / 7) + seed).wrapping_mul(2_654_435_761);
                image::Rgb([(cell >> 8) as u8, (cell >> 16) as u8, (cell >> 24) as u8])
            });
            picture.save(folder.path().join(format!("{seed}.png")))?;
        }
        let images =
            ImageFolder::load(&[folder.path().to_owned()], recipe.batch.crop, Keep::Everything)?;
        let pictures = Arc::new(Pictures { images, pairs: None });
        let batches = Batches::new(&recipe, &pictures, 0..u64::MAX);
        let slots = initial_slots(&recipe.net.tensors(P), recipe.seed);
        let adam = Adam::new(recipe.optimiser.clone(), recipe.steps, slots, &Device::Cpu)?;
        let net = TunableNet::new(P, &recipe.net, tensors_of(&adam))?;
        let multi_loss = MultiLoss::new(&recipe, None, &Device::Cpu)?;
        Ok(Self { recipe, net, adam, multi_loss, batches, step: 0 })
    }

    fn step(&mut self) -> Result<(), Failure> {
        let batch = self.batches.next().ok_or("the loader stopped")?;
        let batch = DeviceBatch::new(&batch, &self.recipe, &Device::Cpu)?;
        let net = self.net.fold(&batch.tunings)?;
        let made = batch.filtered(&self.recipe.net.io(), |x| net.forward(x))?;
        let loss = self.multi_loss.evaluate(&batch, &made, None)?.total;
        self.adam.step(self.step, &loss.backward()?)?;
        self.step += 1;
        Ok(())
    }
}

fn tensors_of(adam: &Adam) -> VarBuilder<'static> {
    let tensors: HashMap<String, Tensor> =
        adam.vars().iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
}

/// Runs for a while, as cores that were idle take many steps to reach their speed, then counts.
fn times(count: &str, mut run: impl FnMut() -> Result<(), Failure>) -> Result<String, Failure> {
    let mut times = vec![];
    let start = Instant::now();
    while start.elapsed() < WARM_UP {
        run()?;
    }
    for _ in 0..count.parse::<usize>()? {
        let start = Instant::now();
        run()?;
        times.push(format!("{:.4}", start.elapsed().as_secs_f64() * 1e3));
    }
    Ok(times.join(" "))
}

/// Steps of this long, or at least one, are not timed: `WARM_UP_S` of `train.py`.
const WARM_UP: Duration = Duration::from_millis(100);

/// What has been made so far.
#[derive(Default)]
struct Contestants {
    trainees: BTreeMap<String, Trainee>,
    trainer: Option<Trainer>,
    layers: BTreeMap<String, Layer>,
}

fn answer(made: &mut Contestants, line: &str) -> Result<String, Failure> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let &[command, name, argument] = &words[..] else {
        return Err(format!("unknown command `{line}`").into());
    };
    if command == "layer" || command == "store" {
        if !made.layers.contains_key(name) {
            made.layers.insert(name.to_string(), Layer::new(name)?);
        }
        let layer = made.layers.get(name).ok_or("made above")?;
        return match command {
            "layer" => times(argument, || layer.pass()),
            _ => times(argument, || layer.store()),
        };
    }
    if name == "trainer" {
        if made.trainer.is_none() {
            made.trainer = Some(Trainer::new()?);
        }
        let trainer = made.trainer.as_mut().ok_or("made above")?;
        return times(argument, || trainer.step());
    }
    if !made.trainees.contains_key(name) {
        made.trainees.insert(name.to_string(), Trainee::new(name)?);
    }
    let trainee = made.trainees.get_mut(name).ok_or("made above")?;
    match command {
        "save" => {
            trainee.save(argument)?;
            Ok("ok".into())
        }
        "time" => times(argument, || trainee.step()),
        _ => Err(format!("unknown command `{line}`").into()),
    }
}

fn main() -> Result<(), Failure> {
    // As the trainer does: this thread is one of those that compute.
    rayon::ThreadPoolBuilder::new().use_current_thread().build_global()?;
    let mut made = Contestants::default();
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        match answer(&mut made, &line?) {
            Ok(answer) => writeln!(out, "{answer}")?,
            Err(error) => writeln!(out, "error {error}")?,
        }
        out.flush()?;
    }
    Ok(())
}
