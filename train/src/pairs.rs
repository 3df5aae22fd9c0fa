//! Pairs of clips, one clean and one degraded by something real, such as a video encoder.
//!
//! A pair is two progressive Y4M clips in one folder, `NAME.clean.y4m` and `NAME.degraded.y4m`,
//! alike in size, range and number of frames, 8-bit 4:2:0. Frame for frame they show the same
//! picture: an encoder that drops, repeats or shifts frames makes no pair. The clean clip should
//! be cleaner than what a net is to restore: never compressed, or scaled down from a larger one.
//! A recipe may ask for pairs below a folder of some name only, so that one set has several kinds.
//! With GStreamer, for H.264 at a constant quantiser:
//!
//! ```sh
//! gst-launch-1.0 filesrc location=SOURCE ! decodebin ! videoscale method=lanczos ! \
//!     videoconvert ! video/x-raw,format=I420,width=640,height=360 ! y4menc ! \
//!     filesink location=NAME.clean.y4m
//! gst-launch-1.0 filesrc location=NAME.clean.y4m ! y4mdec ! x264enc pass=quant quantizer=36 ! \
//!     avdec_h264 direct-rendering=false ! y4menc ! filesink location=NAME.degraded.y4m
//! ```
//!
//! (`y4menc` writes the padding of frames that a decoder handed out directly.) With FFmpeg, for
//! MPEG-2:
//!
//! ```sh
//! ffmpeg -i SOURCE -vf scale=640:360 -pix_fmt yuv420p NAME.clean.y4m
//! ffmpeg -i NAME.clean.y4m -c:v mpeg2video -q:v 16 NAME.mkv
//! ffmpeg -i NAME.mkv -fps_mode passthrough -pix_fmt yuv420p NAME.degraded.y4m
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use bytesize::ByteSize;
use rand::{Rng, RngExt as _};
use tunableconv::checkpoint::DataSet;

use crate::clip::Clip;
use crate::content::{Hash, hash_file, hash_set};
use crate::data::{describe, list_files};
use crate::rgb::Rgb;
use crate::tell;
use crate::terminal::causes;
use crate::yuv::{Matrix, Range, Yuv420};

pub(crate) const CLEAN: &str = ".clean.y4m";
pub(crate) const DEGRADED: &str = ".degraded.y4m";

/// Pairs of frames held in memory as 8-bit planes: as many bytes as their files have.
#[derive(Debug)]
pub struct PairFolder {
    clips: Vec<ClipPair>,
    /// Of all clips, one after the other.
    frames: Vec<FramePair>,
    /// Indices of the frames below folders of each name.
    folders: BTreeMap<String, Vec<usize>>,
    sets: Vec<DataSet>,
    skipped: usize,
    min_side: usize,
}

/// What is known of one pair of clips.
#[derive(Clone, Debug)]
struct ClipPair {
    clean: PathBuf,
    degraded: PathBuf,
    hashes: [Hash; 2],
    frames: usize,
}

impl ClipPair {
    /// Whether it is below a folder of this name.
    fn is_in(&self, folder: &str) -> bool {
        self.clean.parent().is_some_and(|path| path.iter().any(|name| name == folder))
    }
}

/// One picture, twice.
#[derive(Debug)]
struct FramePair {
    width: usize,
    height: usize,
    range: Range,
    /// Y, U, V.
    clean: [Vec<u8>; 3],
    degraded: [Vec<u8>; 3],
}

impl PairFolder {
    /// Reads every pair in `dirs` and their subfolders, sorted by path within each of `dirs`. A
    /// pair that is broken or incomplete, whose clips do not match, or that has a side shorter
    /// than `min_side` pixels is skipped with a line on stderr.
    ///
    /// # Errors
    /// If one of `dirs` does not exist or cannot be listed, or no usable pair is left in it, or
    /// all pairs together take more than `max_bytes` bytes.
    pub fn load(dirs: &[PathBuf], min_side: usize, max_bytes: u64) -> anyhow::Result<Self> {
        ensure!(!dirs.is_empty(), "no folder of pairs was given");
        let mut folder = Self::empty(vec![], min_side);
        let mut bytes = 0;
        for dir in dirs {
            let before = folder.clips.len();
            for (clean, degraded) in list_pairs(dir)? {
                let size = fs::metadata(&clean).map_or(0, |file| file.len())
                    + fs::metadata(&degraded).map_or(0, |file| file.len());
                ensure!(
                    bytes + size <= max_bytes,
                    "{}: the pairs of clips take more than the {} there is room for",
                    clean.display(),
                    ByteSize(max_bytes)
                );
                let read = read_pair(&clean, &degraded, min_side)
                    .and_then(|frames| Ok((frames, [hash_file(&clean)?, hash_file(&degraded)?])));
                match read {
                    Ok((frames, hashes)) => {
                        let clip = ClipPair { clean, degraded, hashes, frames: frames.len() };
                        folder.clips.push(clip);
                        folder.frames.extend(frames);
                        bytes += size;
                    }
                    Err(error) => {
                        folder.skipped += 1;
                        tell!("warning: skipped: {}", causes(&error));
                    }
                }
            }
            if folder.clips.len() == before {
                bail!(
                    "{}: no usable pair NAME{CLEAN} and NAME{DEGRADED} with sides of at least \
                     {min_side} pixels",
                    dir.display()
                );
            }
            let own = &folder.clips[before..];
            folder.sets.push(describe(dir, own.len(), hash_clips(own))?);
        }
        folder.name_folders();
        Ok(folder)
    }

    fn empty(sets: Vec<DataSet>, min_side: usize) -> Self {
        let folders = BTreeMap::new();
        Self { clips: vec![], frames: vec![], folders, sets, skipped: 0, min_side }
    }

    /// Says which frames are below which folders.
    fn name_folders(&mut self) {
        self.folders.clear();
        let mut first = 0;
        for clip in &self.clips {
            let frames = first..first + clip.frames;
            first = frames.end;
            let names: BTreeSet<_> = clip.clean.parent().into_iter().flatten().collect();
            for name in names {
                let own = self.folders.entry(name.to_string_lossy().into_owned()).or_default();
                own.extend(frames.clone());
            }
        }
    }

    /// Indices of the pairs of frames below a folder of this name, or of all.
    #[must_use]
    pub fn frames_in(&self, folder: Option<&str>) -> Vec<usize> {
        match folder {
            None => (0..self.len()).collect(),
            Some(name) => self.folders.get(name).cloned().unwrap_or_default(),
        }
    }

    /// Names of the folders that a pair of frames is in.
    pub fn folders_of(&self, frame: usize) -> impl Iterator<Item = &str> {
        let own =
            self.folders.iter().filter(move |(_, frames)| frames.binary_search(&frame).is_ok());
        own.map(|(name, _)| name.as_str())
    }

    /// Number of pairs of frames; at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a loaded folder is never empty")]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Bytes that they take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let planes = |frame: &FramePair| frame.clean.iter().map(Vec::len).sum::<usize>();
        self.frames.iter().map(|frame| 2 * planes(frame) as u64).sum()
    }

    /// Number of pairs of clips that were skipped.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Number of pairs of clips; at least 1.
    #[must_use]
    pub fn clips(&self) -> usize {
        self.clips.len()
    }

    /// Hash of the names and contents of the clips' files.
    #[must_use]
    pub fn hash(&self) -> Hash {
        hash_clips(&self.clips)
    }

    /// The data sets that were read, one for each folder.
    #[must_use]
    pub fn sets(&self) -> &[DataSet] {
        &self.sets
    }

    /// Takes `count` random pairs of clips out, in their order; and more, or fewer, so that of each of
    /// these folders that has two or more there are some on either side.
    ///
    /// # Panics
    /// If that leaves none.
    pub fn set_aside<R: Rng + ?Sized>(
        &mut self,
        count: usize,
        folders: &[&str],
        rng: &mut R,
    ) -> Self {
        assert!(count < self.clips(), "{count} of {} pairs of clips", self.clips());
        let mut chosen = rand::seq::index::sample(rng, self.clips(), count).into_vec();
        for folder in folders {
            let is_in = |index: &usize| self.clips[*index].is_in(folder);
            let own: Vec<usize> = (0..self.clips()).filter(is_in).collect();
            let aside = own.iter().filter(|index| chosen.contains(index)).count();
            if own.len() > 1 && aside == 0 {
                chosen.push(own[rng.random_range(0..own.len())]);
            } else if own.len() > 1 && aside == own.len() {
                chosen.retain(|index| *index != own[0]);
            }
        }
        let mut kept = Self::empty(std::mem::take(&mut self.sets), self.min_side);
        let mut aside = Self::empty(vec![], self.min_side);
        kept.skipped = self.skipped;
        let mut frames = std::mem::take(&mut self.frames).into_iter();
        for (index, clip) in std::mem::take(&mut self.clips).into_iter().enumerate() {
            let to = if chosen.contains(&index) { &mut aside } else { &mut kept };
            to.frames.extend(frames.by_ref().take(clip.frames));
            to.clips.push(clip);
        }
        kept.name_folders();
        aside.name_folders();
        *self = kept;
        aside
    }

    /// The middle of a pair of frames, clean and degraded, of at most `side` pixels each way, in even
    /// numbers of them.
    #[must_use]
    pub fn middle(&self, index: usize, side: usize) -> (Rgb, Rgb) {
        let frame = &self.frames[index];
        let span = |length: usize| {
            let span = length.min(side) & !1;
            let start = ((length - span) / 2) & !1;
            (start..start + span).collect::<Vec<_>>()
        };
        let (columns, rows) = (span(frame.width), span(frame.height));
        let of = |planes| frame.to_rgb(planes, &columns, &rows);
        (of(&frame.clean), of(&frame.degraded))
    }

    /// A pair of frames, clean and degraded.
    #[must_use]
    pub fn whole(&self, index: usize) -> (Rgb, Rgb) {
        let frame = &self.frames[index];
        // Pairs of pixels share chroma.
        let span = |length: usize| {
            (0..length.next_multiple_of(2)).map(|i| i.min(length - 1)).collect::<Vec<_>>()
        };
        let (columns, rows) = (span(frame.width), span(frame.height));
        let of =
            |planes| frame.to_rgb(planes, &columns, &rows).crop(0, 0, frame.width, frame.height);
        (of(&frame.clean), of(&frame.degraded))
    }

    /// A square crop at a random place of a random pair of frames, of those below a folder of this
    /// name if one is given, in one of its eight orientations, all uniformly drawn: clean, and degraded.
    ///
    /// The side is `size + 2 · halo` pixels, as for
    /// [`ImageFolder::sample_crop`](crate::data::ImageFolder::sample_crop). The inner `size`
    /// pixels begin at an even column and row of the frame, so that an even `size` holds whole
    /// chroma samples. Y4M names no matrix: frames of 720 lines or more become RGB by BT.709,
    /// others by BT.601.
    ///
    /// # Panics
    /// If `size` is 0 or above the `min_side` of [`Self::load`], or there is no such folder.
    pub fn sample_crop_pair<R: Rng + ?Sized>(
        &self,
        folder: Option<&str>,
        size: usize,
        halo: usize,
        rng: &mut R,
    ) -> (Rgb, Rgb) {
        assert!(
            0 < size && size <= self.min_side,
            "crops of {size} pixels from frames that may have only {}",
            self.min_side
        );
        let index = match folder {
            None => rng.random_range(0..self.frames.len()),
            Some(name) => {
                let own = &self.folders[name];
                own[rng.random_range(0..own.len())]
            }
        };
        let frame = &self.frames[index];
        // Conversion needs whole chroma samples all around.
        let even_halo = halo.next_multiple_of(2);
        let columns = pick_span(frame.width, size, even_halo, rng);
        let rows = pick_span(frame.height, size, even_halo, rng);
        let orientation = rng.random_range(0..8);
        let crop = |planes| {
            let (margin, side) = (even_halo - halo, size + 2 * halo);
            let rgb = frame.to_rgb(planes, &columns, &rows);
            rgb.crop(margin, margin, side, side).dihedral(orientation)
        };
        (crop(&frame.clean), crop(&frame.degraded))
    }
}

fn hash_clips(clips: &[ClipPair]) -> Hash {
    hash_set(clips.iter().flat_map(|clip| {
        let [clean, degraded] = clip.hashes;
        [(clip.clean.as_path(), clean), (clip.degraded.as_path(), degraded)]
    }))
}

impl FramePair {
    /// The pixels where `columns` and `rows` cross, which come in pairs that share chroma.
    fn to_rgb(&self, planes: &[Vec<u8>; 3], columns: &[usize], rows: &[usize]) -> Rgb {
        let matrix = if self.height < 720 { Matrix::Bt601 } else { Matrix::Bt709 };
        let [y, u, v] = planes;
        let halved = |span: &[usize]| span.iter().step_by(2).map(|i| i / 2).collect::<Vec<_>>();
        let (half_columns, half_rows) = (halved(columns), halved(rows));
        let chroma_width = self.width.div_ceil(2);
        let picture = Yuv420 {
            width: columns.len(),
            height: rows.len(),
            y: gather(y, self.width, columns, rows),
            u: gather(u, chroma_width, &half_columns, &half_rows),
            v: gather(v, chroma_width, &half_columns, &half_rows),
        };
        picture.to_rgb(matrix, self.range)
    }
}

fn gather(plane: &[u8], stride: usize, columns: &[usize], rows: &[usize]) -> Vec<f32> {
    let mut values = Vec::with_capacity(columns.len() * rows.len());
    for y in rows {
        let row = &plane[y * stride..][..stride];
        values.extend(columns.iter().map(|&x| f32::from(row[x])));
    }
    values
}

/// The source indices of `size + 2 · halo` consecutive pixels along an axis of `len` pixels, the
/// first of them even; those outside are replicated where there is no room for the halo.
fn pick_span<R: Rng + ?Sized>(len: usize, size: usize, halo: usize, rng: &mut R) -> Vec<usize> {
    let full = size + 2 * halo;
    let (least, greatest) = if full <= len { (halo, len - size - halo) } else { (0, len - size) };
    let core = 2 * rng.random_range(least / 2..=greatest / 2);
    (core..core + full).map(|i| i.saturating_sub(halo).min(len - 1)).collect()
}

/// Clean and degraded clips by their names; a clip alone is listed with its missing twin.
fn list_pairs(dir: &Path) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let stem = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        let stem = name.strip_suffix(CLEAN).or_else(|| name.strip_suffix(DEGRADED))?;
        Some(path.with_file_name(stem))
    };
    let files = list_files(dir, |path| stem(path).is_some())?;
    let mut stems: Vec<PathBuf> = files.iter().filter_map(|path| stem(path)).collect();
    stems.sort();
    stems.dedup();
    let with = |stem: &Path, suffix| {
        let mut name = stem.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    Ok(stems.iter().map(|stem| (with(stem, CLEAN), with(stem, DEGRADED))).collect())
}

fn read_pair(
    clean_path: &Path,
    degraded_path: &Path,
    min_side: usize,
) -> anyhow::Result<Vec<FramePair>> {
    let (clean_name, degraded_name) = (clean_path.display(), degraded_path.display());
    let open = |path: &Path, twin: &Path| {
        ensure!(path.is_file(), "{} is missing beside {}", path.display(), twin.display());
        Clip::open(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut clean_clip = open(clean_path, degraded_path)?;
    let mut degraded_clip = open(degraded_path, clean_path)?;
    let range = clean_clip.range;
    ensure!(
        degraded_clip.range == range,
        "{degraded_name}: expected {range:?} range like {clean_name}, got {:?}",
        degraded_clip.range
    );
    let mut frames: Vec<FramePair> = Vec::new();
    loop {
        let count = frames.len();
        let next = |clip: &mut Clip, path: &Path| {
            clip.next_frame()
                .with_context(|| format!("cannot read frame {count} of {}", path.display()))
        };
        let clean = next(&mut clean_clip, clean_path)?;
        let degraded = next(&mut degraded_clip, degraded_path)?;
        let (clean, degraded) = match (clean, degraded) {
            (Some(clean), Some(degraded)) => (clean.picture, degraded.picture),
            (None, None) => break,
            (None, Some(_)) => {
                bail!("{degraded_name}: expected {count} frames like {clean_name}, got more")
            }
            (Some(_), None) => {
                bail!("{degraded_name}: expected as many frames as {clean_name}, got only {count}")
            }
        };
        let (width, height) = (clean.width, clean.height);
        ensure!(
            (degraded.width, degraded.height) == (width, height),
            "{degraded_name}: expected {width}x{height} like {clean_name}, got {}x{}",
            degraded.width,
            degraded.height
        );
        ensure!(
            width.min(height) >= min_side,
            "{clean_name}: {width}x{height} is smaller than {min_side} pixels"
        );
        let (clean, degraded) = (clean.to_bytes(), degraded.to_bytes());
        frames.push(FramePair { width, height, range, clean, degraded });
    }
    ensure!(!frames.is_empty(), "{clean_name}: expected at least one frame");
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 6 + 24] = *b"FRAME\n0123456789abcdefUUUUVVVV";

    /// A clip of 4×4 pixels.
    fn clip(header: &str, frames: usize) -> Vec<u8> {
        [header.as_bytes(), b"\n", &FRAME.repeat(frames)].concat()
    }

    #[test]
    fn a_bad_pair_is_told_with_what_was_expected() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [CLEAN, DEGRADED].map(|suffix| dir.path().join(format!("x{suffix}")));
        let header = "YUV4MPEG2 W4 H4 F25:1 C420jpeg";
        let good = clip(header, 2);
        for (clean, degraded, named, expected) in [
            (&good, clip(header, 1), DEGRADED, "expected as many frames"),
            (&good, clip(header, 3), DEGRADED, "expected 2 frames"),
            (&good, clip("YUV4MPEG2 W6 H2 F25:1", 2), DEGRADED, "expected 4x4"),
            (&good, clip(&format!("{header} XCOLORRANGE=FULL"), 2), DEGRADED, "Limited range"),
            (&good, good[..good.len() - 1].to_vec(), DEGRADED, "frame 1"),
            (&good, clip("YUV4MPEG2 W4 H4 F25:1 C420p10", 2), DEGRADED, "8-bit 4:2:0"),
            (&clip(header, 0), clip(header, 0), CLEAN, "at least one frame"),
            (&Vec::new(), good.clone(), CLEAN, "YUV4MPEG2"),
        ] {
            for (path, content) in paths.iter().zip([clean, &degraded]) {
                fs::write(path, content).unwrap();
            }
            let error = read_pair(&paths[0], &paths[1], 2).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(named) && error.contains(expected), "{error}");
        }
        fs::write(&paths[0], &good).unwrap();
        fs::write(&paths[1], &good).unwrap();
        assert_eq!(read_pair(&paths[0], &paths[1], 4).unwrap().len(), 2);
        let error = read_pair(&paths[0], &paths[1], 5).unwrap_err();
        assert!(error.to_string().contains("4x4 is smaller than 5"), "{error}");
        fs::remove_file(&paths[0]).unwrap();
        let error = read_pair(&paths[0], &paths[1], 4).unwrap_err();
        assert!(error.to_string().contains("x.clean.y4m is missing"), "{error}");
    }

    #[test]
    fn a_folder_has_its_own_pairs_whatever_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        for (name, frames) in [("noisy/a", 1), ("noisy/b", 2), ("sharp/c", 3)] {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            for suffix in [CLEAN, DEGRADED] {
                let path = dir.path().join(format!("{name}{suffix}"));
                fs::write(path, clip("YUV4MPEG2 W4 H4 F25:1", frames)).unwrap();
            }
        }
        let mut pairs = PairFolder::load(&[dir.path().to_owned()], 4, u64::MAX).unwrap();
        assert_eq!(pairs.frames_in(Some("noisy")), [0, 1, 2]);
        assert_eq!(pairs.frames_in(Some("sharp")), [3, 4, 5]);
        assert_eq!(pairs.frames_in(None).len(), 6);
        assert!(pairs.frames_in(Some("other")).is_empty());
        let is_in = |frame, folder| pairs.folders_of(frame).any(|name| name == folder);
        assert!(is_in(2, "noisy") && !is_in(2, "sharp") && is_in(3, "sharp"));
        let aside = pairs.set_aside(1, &[], &mut rand::rng());
        for name in ["noisy", "sharp"] {
            let count = |pairs: &PairFolder| pairs.frames_in(Some(name)).len();
            assert_eq!(count(&pairs) + count(&aside), 3, "{name}");
        }
        assert!(aside.frames_in(None).len() == aside.len());
        for count in [1, 2] {
            // A folder of one has it where it falls.
            let mut pairs = PairFolder::load(&[dir.path().to_owned()], 4, u64::MAX).unwrap();
            let aside = pairs.set_aside(count, &["noisy", "sharp"], &mut rand::rng());
            for pairs in [&pairs, &aside] {
                assert!(!pairs.frames_in(Some("noisy")).is_empty());
            }
        }
    }

    #[test]
    fn memory_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let good = clip("YUV4MPEG2 W4 H4 F25:1", 2);
        for name in ["a", "b"] {
            for suffix in [CLEAN, DEGRADED] {
                fs::write(dir.path().join(format!("{name}{suffix}")), &good).unwrap();
            }
        }
        let bytes = 4 * good.len() as u64;
        let load = |max_bytes| PairFolder::load(&[dir.path().to_owned()], 4, max_bytes);
        assert_eq!(load(bytes).unwrap().len(), 4);
        let error = load(bytes - 1).unwrap_err();
        assert!(error.to_string().contains("b.clean.y4m"), "{error}");
    }
}
