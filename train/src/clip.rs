//! Y4M clips: read, and written.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Cursor, Read, Write};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, bail, ensure};

use crate::yuv::{Range, Yuv420};

/// The 8-bit 4:2:0 colour spaces. They differ in where chroma is sited, which is carried over.
const SUPPORTED: [&str; 4] = ["420", "420jpeg", "420mpeg2", "420paldv"];

/// The longest side that is accepted, in pixels, so that sizes in bytes cannot overflow.
const MAX_SIDE: usize = 1 << 15;

/// The longest stream header that is accepted, in bytes.
const MAX_HEADER: u64 = 1024;

/// A frame as it was read.
pub struct Frame {
    /// What stands after `FRAME `.
    pub(crate) params: Vec<u8>,
    /// Its picture.
    pub picture: Yuv420,
}

/// The stream header, read ahead to name its colour space, then what follows it.
type HeaderThenFile = io::Chain<Cursor<Vec<u8>>, BufReader<File>>;

/// An open 8-bit 4:2:0 clip.
pub struct Clip {
    decoder: y4m::Decoder<Counted<HeaderThenFile>>,
    /// Bytes handed to the decoder so far.
    consumed: Rc<Cell<u64>>,
    /// The stream header with its newline, as it came.
    pub(crate) header: Vec<u8>,
    /// Of its codes: limited unless the header says `XCOLORRANGE=FULL`.
    pub range: Range,
    picture_bytes: u64,
    /// By the size of the file.
    pub(crate) expected_frames: u64,
}

impl Clip {
    /// Reads the header.
    ///
    /// # Errors
    /// If the file cannot be read, or is no progressive 8-bit 4:2:0 Y4M.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
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
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.decoder.get_width(), self.decoder.get_height())
    }

    /// Frames a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let rate = self.decoder.get_framerate();
        rate.num as f64 / rate.den as f64
    }

    /// The next frame, or `None` at the end of the file.
    ///
    /// # Errors
    /// If the clip is broken or cut short.
    pub fn next_frame(&mut self) -> anyhow::Result<Option<Frame>> {
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

/// Writes a progressive 8-bit 4:2:0 clip of square pixels.
pub struct ClipWriter<W> {
    file: W,
}

impl<W: Write> ClipWriter<W> {
    /// Writes the header: width and height in pixels, frames a second as a fraction.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn new(
        mut file: W,
        (width, height): (usize, usize),
        (frames, seconds): (usize, usize),
    ) -> io::Result<Self> {
        writeln!(file, "YUV4MPEG2 W{width} H{height} F{frames}:{seconds} Ip A1:1 C420jpeg")?;
        Ok(Self { file })
    }

    /// Writes a frame's planes Y, U and V.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn write(&mut self, planes: &[Vec<u8>; 3]) -> io::Result<()> {
        write_frame(&mut self.file, b"", planes)
    }
}

/// Writes a frame with what stands after its `FRAME `.
pub(crate) fn write_frame(
    file: &mut impl Write,
    params: &[u8],
    planes: &[Vec<u8>; 3],
) -> io::Result<()> {
    file.write_all(b"FRAME")?;
    if !params.is_empty() {
        file.write_all(b" ")?;
        file.write_all(params)?;
    }
    file.write_all(b"\n")?;
    planes.iter().try_for_each(|plane| file.write_all(plane))
}

/// Writes a clip of frames' planes Y, U and V, 8-bit 4:2:0 at 25 frames a second, whole or not at
/// all.
pub(crate) fn write_clip<'a>(
    path: &Path,
    size: (usize, usize),
    mut frames: impl Iterator<Item = &'a [Vec<u8>; 3]>,
) -> anyhow::Result<()> {
    tunableconv::atomic_file::write::<anyhow::Error>(path, |file| {
        let mut clip = ClipWriter::new(file, size, (25, 1))?;
        Ok(frames.try_for_each(|planes| clip.write(planes))?)
    })
    .with_context(|| path.display().to_string())
}
