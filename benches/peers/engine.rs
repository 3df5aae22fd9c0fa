//! The project's engines behind a pipe, for `run.py`: reads commands from standard input, a line
//! each, and answers each with a line.
//!
//! | command | answer |
//! |---|---|
//! | `load FORM FILE` | `ok`; the input of that form |
//! | `time FORM PRECISION COUNT` | milliseconds of COUNT frames |
//! | `save FORM PRECISION FILE` | `ok`; the output |
//!
//! FORM is `planes` (8-bit Y, U and V, limited range) or `tensor` (f32 `[6, H, W]`, the output is
//! input plus residual); PRECISION is f32, int8 or candle. What goes wrong is answered with
//! `error` and the reason.

use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::time::Instant;

use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::{CandleEngine, CpuEngine, DeviceChoice, Engine, Options, Precision};
use tunableconv::frame::{FrameFormat, Range, SampleFormat};
use tunableconv::net::Net;
use tunableconv::picture::Picture;
use tunableconv::tuning::Tuning;

type Failure = Box<dyn std::error::Error>;

struct Peer {
    checkpoint: Checkpoint,
    tuning: Tuning,
    format: FrameFormat,
    threads: usize,
    engines: HashMap<String, CpuEngine>,
    candle: Option<CandleEngine>,
    input: Option<Picture>,
    output: Picture,
    x: Vec<f32>,
    residual: Vec<f32>,
}

impl Peer {
    /// From `CHECKPOINT --tuning NAME=VALUE,… --size WIDTHxHEIGHT --threads N`.
    fn new(arguments: &[String]) -> Result<Self, Failure> {
        let [path, rest @ ..] = arguments else { return Err("expected a checkpoint".into()) };
        let option = |name: &str| {
            let at = rest.iter().position(|word| word == name);
            let value = at.and_then(|at| rest.get(at + 1));
            value.ok_or_else(|| format!("expected {name} and its value"))
        };
        let checkpoint = Checkpoint::read(&PathBuf::from(path))?;
        let mut named = vec![];
        for pair in option("--tuning")?.split(',') {
            let (name, value) = pair.split_once('=').ok_or("expected NAME=VALUE")?;
            named.push((name.to_string(), value.parse()?));
        }
        let (width, height) = option("--size")?.split_once('x').ok_or("expected WIDTHxHEIGHT")?;
        let format = FrameFormat {
            width: width.parse()?,
            height: height.parse()?,
            range: Range::Limited,
            samples: SampleFormat::U8,
        };
        Ok(Self {
            tuning: checkpoint.metadata.tuning.tuning_from_names(&named)?,
            checkpoint,
            format,
            threads: option("--threads")?.parse()?,
            engines: HashMap::new(),
            candle: None,
            input: None,
            output: Picture::grey(format)?,
            x: vec![],
            residual: vec![],
        })
    }

    fn answer(&mut self, line: &str) -> Result<String, Failure> {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["load", "planes", file] => {
                let bytes = std::fs::read(file)?;
                let luma = self.format.width * self.format.height;
                if bytes.len() < luma {
                    return Err("too few bytes".into());
                }
                let (y, chroma) = bytes.split_at(luma);
                let (u, v) = chroma.split_at(chroma.len() / 2);
                self.input = Some(Picture::new(self.format, [y, u, v].map(<[u8]>::to_vec))?);
                Ok("ok".into())
            }
            ["load", "tensor", file] => {
                let bytes = std::fs::read(file)?;
                let (words, _) = bytes.as_chunks::<4>();
                self.x = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
                self.residual = vec![0.0; self.x.len()];
                Ok("ok".into())
            }
            ["time", form, precision, count] => {
                let mut times = vec![];
                self.step(form, precision)?;
                for _ in 0..count.parse::<usize>()? {
                    let start = Instant::now();
                    self.step(form, precision)?;
                    times.push(format!("{:.4}", start.elapsed().as_secs_f64() * 1e3));
                }
                Ok(times.join(" "))
            }
            ["save", form, precision, file] => {
                self.step(form, precision)?;
                let bytes: Vec<u8> = match form {
                    "planes" => self.output.planes().concat(),
                    _ => {
                        let sums = self.x.iter().zip(&self.residual).map(|(x, r)| x + r);
                        sums.flat_map(f32::to_le_bytes).collect()
                    }
                };
                std::fs::write(file, bytes)?;
                Ok("ok".into())
            }
            _ => Err(format!("unknown command `{line}`").into()),
        }
    }

    /// One frame.
    fn step(&mut self, form: &str, precision: &str) -> Result<(), Failure> {
        if precision == "candle" {
            if self.candle.is_none() {
                let net = Net::new(&self.checkpoint, &candle_core::Device::Cpu)?;
                let mut candle = CandleEngine::new(net.into(), self.threads, "")?;
                candle.set_tuning(&self.tuning)?;
                self.candle = Some(candle);
            }
            let candle = self.candle.as_mut().ok_or("made above")?;
            let input = self.input.as_ref().ok_or("no planes were loaded")?;
            return Ok(candle.process(&input.frame(), &mut self.output.frame_mut())?);
        }
        if !self.engines.contains_key(precision) {
            let precision: Precision = precision.parse()?;
            let (device, threads) = (DeviceChoice::Cpu, self.threads);
            let options = Options { device, precision, threads, ..Options::default() };
            let mut engine = CpuEngine::new(&self.checkpoint, &options)?;
            engine.set_tuning(&self.tuning)?;
            self.engines.insert(precision.to_string(), engine);
        }
        let engine = self.engines.get_mut(precision).ok_or("made above")?;
        if form == "planes" {
            let input = self.input.as_ref().ok_or("no planes were loaded")?;
            engine.process(&input.frame(), &mut self.output.frame_mut())?;
        } else {
            engine.residual(&self.x, self.format.half_size(), &mut self.residual)?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut peer = Peer::new(&arguments)?;
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        match peer.answer(&line?) {
            Ok(answer) => writeln!(out, "{answer}")?,
            Err(error) => writeln!(out, "error {error}")?,
        }
        out.flush()?;
    }
    Ok(())
}
