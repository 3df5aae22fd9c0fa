//! Degrades a Y4M clip through the RGB path that training uses.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Cursor, Read, Write};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::condition::Condition;
use crate::yuv::{Matrix, Range, Yuv420};

/// The 8-bit 4:2:0 colour spaces. They differ in where chroma is sited, which is carried over.
const SUPPORTED: [&str; 4] = ["420", "420jpeg", "420mpeg2", "420paldv"];

/// The longest side that is accepted, in pixels, so that sizes in bytes cannot overflow.
const MAX_SIDE: usize = 1 << 15;

/// The longest stream header that is accepted, in bytes.
const MAX_HEADER: u64 = 1024;

/// Degrades every frame of the Y4M file `input` (8-bit 4:2:0) and writes `output`, whole or not
/// at all. Returns the number of frames.
///
/// A frame becomes RGB (chroma replicated), is degraded, and goes back to rounded 4:2:0. Kinds of
/// noise have the seed `seed · 0x9E3779B97F4A7C15 + frame index` (wrapping; see
/// [`noise_for_eval`](crate::degrade::noise_for_eval)), all others the same in every frame. When
/// clean only that round trip is left. The range is limited unless the header says `XCOLORRANGE=FULL`; all header fields are carried over.
///
/// # Errors
/// If a strength is out of its range, a file cannot be read or written, the colour space
/// is another one, or the clip is empty, broken or cut short. The message names the file and,
/// where it applies, the frame (from 0).
pub fn degrade_y4m(
    input: &Path,
    output: &Path,
    condition: &Condition,
    seed: u64,
    matrix: Matrix,
) -> anyhow::Result<usize> {
    condition.check()?;
    ensure!(!condition.is_recorded(), "what is recorded cannot be made: it comes with a pair");
    let mut clip = Clip::open(input).with_context(|| format!("cannot read {}", input.display()))?;
    let bar = ProgressBar::new(clip.expected_frames).with_style(bar_style());
    let mut frames = 0;
    tunableconv::atomic_file::write::<anyhow::Error>(output, |file| {
        file.write_all(&clip.header)?;
        // A batch of one frame a thread, so that memory stays bounded.
        let batch_size = rayon::current_num_threads();
        loop {
            let mut batch = Vec::with_capacity(batch_size);
            while batch.len() < batch_size {
                let index = frames + batch.len();
                let frame =
                    clip.next_frame().with_context(|| format!("cannot read frame {index}"))?;
                let Some(frame) = frame else { break };
                batch.push((seed_of_frame(seed, index as u64), frame));
            }
            let degraded: Vec<[Vec<u8>; 3]> = batch
                .par_iter()
                .map(|(frame_seed, frame)| {
                    let clean = frame.picture.to_rgb(matrix, clip.range);
                    let degraded = condition.apply_to_frame(clean, seed, *frame_seed);
                    Yuv420::from_rgb(&degraded, matrix, clip.range).to_bytes()
                })
                .collect();
            for ((_, frame), planes) in batch.iter().zip(degraded) {
                write_frame(file, &frame.params, &planes)?;
            }
            frames += batch.len();
            bar.inc(batch.len() as u64);
            if batch.len() < batch_size {
                break;
            }
        }
        ensure!(frames > 0, "the clip holds no frame");
        Ok(())
    })
    .with_context(|| format!("cannot degrade {} into {}", input.display(), output.display()))?;
    bar.finish_and_clear();
    Ok(frames)
}

pub(crate) fn seed_of_frame(seed: u64, index: u64) -> u64 {
    // The odd multiplier keeps the frames of neighbouring seeds apart.
    seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(index)
}

fn write_frame(file: &mut impl Write, params: &[u8], planes: &[Vec<u8>; 3]) -> io::Result<()> {
    file.write_all(b"FRAME")?;
    if !params.is_empty() {
        file.write_all(b" ")?;
        file.write_all(params)?;
    }
    file.write_all(b"\n")?;
    planes.iter().try_for_each(|plane| file.write_all(plane))
}

/// Writes a clip of frames' planes Y, U and V, 8-bit 4:2:0, whole or not at all.
pub(crate) fn write_clip<'a>(
    path: &Path,
    (width, height): (usize, usize),
    frames: impl Iterator<Item = &'a [Vec<u8>; 3]>,
) -> anyhow::Result<()> {
    tunableconv::atomic_file::write::<anyhow::Error>(path, |file| {
        writeln!(file, "YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg")?;
        for planes in frames {
            write_frame(file, b"", planes)?;
        }
        Ok(())
    })
    .with_context(|| path.display().to_string())
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("degrading [{bar:40}] {pos}/{len} frames {eta}")
        .expect("the template is a constant")
        .progress_chars("=> ")
}

/// A frame as it was read.
pub(crate) struct Frame {
    /// What stands after `FRAME `.
    params: Vec<u8>,
    pub(crate) picture: Yuv420,
}

/// The stream header, read ahead to name its colour space, then what follows it.
type HeaderThenFile = io::Chain<Cursor<Vec<u8>>, BufReader<File>>;

/// An open 8-bit 4:2:0 clip.
pub(crate) struct Clip {
    decoder: y4m::Decoder<Counted<HeaderThenFile>>,
    /// Bytes handed to the decoder so far.
    consumed: Rc<Cell<u64>>,
    /// The stream header with its newline, as it came.
    header: Vec<u8>,
    pub(crate) range: Range,
    picture_bytes: u64,
    expected_frames: u64,
}

impl Clip {
    /// Reads the header.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut reader = BufReader::new(file);
        let mut header = Vec::new();
        reader.by_ref().take(MAX_HEADER).read_until(b'\n', &mut header)?;
        ensure!(
            header.starts_with(b"YUV4MPEG2 ") && header.ends_with(b"\n"),
            "it does not begin with a YUV4MPEG2 header"
        );
        let mut range = Range::Limited;
        for field in String::from_utf8_lossy(&header).split_whitespace().skip(1) {
            if let Some(space) = field.strip_prefix('C') {
                ensure!(
                    SUPPORTED.contains(&space),
                    "colour space C{space} is not supported; only 8-bit 4:2:0 is (C{})",
                    SUPPORTED.join(", C")
                );
            } else if let Some(side) = field.strip_prefix(['W', 'H']) {
                let side: usize = side.parse().with_context(|| format!("field {field}"))?;
                ensure!(side <= MAX_SIDE, "{field}: sides end at {MAX_SIDE} pixels");
            } else if let Some(order) = field.strip_prefix('I') {
                ensure!(
                    matches!(order, "p" | "?"),
                    "its frames are interlaced (I{order}); only progressive ones (Ip) are supported"
                );
            } else if field == "XCOLORRANGE=FULL" {
                range = Range::Full;
            }
        }
        let consumed = Rc::new(Cell::new(0));
        let reader = Counted {
            inner: Cursor::new(header.clone()).chain(reader),
            count: Rc::clone(&consumed),
        };
        let decoder = y4m::Decoder::new(reader).context("the header is broken")?;
        let (width, height) = (decoder.get_width(), decoder.get_height());
        let luma = (width * height) as u64;
        let chroma = (width.div_ceil(2) * height.div_ceil(2)) as u64;
        let picture_bytes = luma + 2 * chroma;
        let frame_bytes = "FRAME\n".len() as u64 + picture_bytes;
        Ok(Self {
            picture_bytes,
            expected_frames: bytes.saturating_sub(header.len() as u64) / frame_bytes,
            decoder,
            consumed,
            header,
            range,
        })
    }

    /// Width and height, in pixels.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.decoder.get_width(), self.decoder.get_height())
    }

    /// The next frame, or `None` at the end of the file.
    pub(crate) fn next_frame(&mut self) -> anyhow::Result<Option<Frame>> {
        let (width, height) = self.size();
        let before = self.consumed.get();
        match self.decoder.read_frame() {
            Ok(frame) => {
                let planes = [frame.get_y_plane(), frame.get_u_plane(), frame.get_v_plane()];
                Ok(Some(Frame {
                    params: frame.get_raw_params().unwrap_or_default().to_vec(),
                    picture: Yuv420::from_bytes(width, height, planes)?,
                }))
            }
            // The decoder reports both the end between frames and one within a frame.
            Err(y4m::Error::EOF) if self.consumed.get() == before => Ok(None),
            Err(y4m::Error::EOF) => bail!("the file is cut short"),
            // As when an encoder has written the padding of frames.
            Err(_) => bail!(
                "expected `FRAME` and the {} bytes of a picture of {width}x{height}, found something \
                 else",
                self.picture_bytes
            ),
        }
    }
}

/// Counts the bytes that pass.
struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}
