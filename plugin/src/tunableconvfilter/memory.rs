//! Whether a buffer's memory holds a frame.
//!
//! `GstVideoFrame` trusts a `GstVideoMeta`: it maps each plane where the meta says, whatever the
//! memory holds there. So every buffer is looked at first. One that does not hold its frame is
//! refused; one with a plane that spans memories, or is cut short after its last pixel, is copied.
//!
//! A `GstVideoCropMeta` beside a `GstVideoMeta` that is larger than the caps says which part of the memory they are of.

use gst_video::{VideoCropMeta, VideoInfo, VideoMeta};
use gstreamer as gst;
use gstreamer_video as gst_video;
use tunableconv::{Error, Result};

/// Where the rows of a plane lie in a buffer.
struct Place {
    offset: usize,
    stride: usize,
    rows: usize,
    /// Those of a row that hold pixels.
    row_bytes: usize,
}

/// Whether `GstVideoFrame` can map the frame of these caps in a buffer; if not, [`pack`] can copy
/// it.
///
/// # Errors
/// [`Error::Frame`] when the buffer does not hold such a frame.
pub fn is_mappable(buffer: &gst::BufferRef, info: &VideoInfo) -> Result<bool> {
    let frame = |format, width, height| format!("{format} of {width}×{height}");
    let expected = || frame(info.format(), info.width(), info.height());
    let Some(meta) = buffer.meta::<VideoMeta>() else {
        // Without a meta the memories are mapped as one.
        if buffer.size() >= info.size() {
            return Ok(true);
        }
        let (got, expected, size) = (buffer.size(), expected(), info.size());
        return Err(Error::Frame(format!(
            "a buffer of {got} bytes, expected at least {size} for {expected}"
        )));
    };
    if meta.format() != info.format()
        || meta.n_planes() != info.n_planes()
        || meta.width() < info.width()
        || meta.height() < info.height()
    {
        let got = frame(meta.format(), meta.width(), meta.height());
        return Err(Error::Frame(format!(
            "a buffer whose video meta says {got} in {} planes, expected {} in {}",
            meta.n_planes(),
            expected(),
            info.n_planes()
        )));
    }
    let origin = origin(buffer, &meta, info)?;
    let mut is_mappable = origin == (0, 0);
    for plane in 0..info.n_planes() {
        let place = place((&meta, origin), info, plane, buffer.size())?;
        let component = components(info, plane).next().unwrap_or(0);
        let rows = info.format_info().scale_height(component, meta.height());
        let end = place.stride * rows as usize + place.offset;
        let memories = buffer.find_memory(place.offset..end);
        is_mappable &= memories.is_some_and(|(memories, _)| memories.len() == 1);
    }
    Ok(is_mappable)
}

/// Copies the frame of these caps in a buffer with a video meta into one as the caps say, without
/// one.
///
/// # Errors
/// [`Error::Frame`] when the buffer does not hold such a frame, or cannot be read.
pub fn pack(buffer: &gst::BufferRef, info: &VideoInfo, packed: &mut gst::BufferRef) -> Result<()> {
    let failed = |error: glib::BoolError| Error::Frame(error.to_string());
    let meta = buffer.meta::<VideoMeta>().ok_or_else(|| Error::Frame("no video meta".into()))?;
    let origin = origin(buffer, &meta, info)?;
    let from = buffer.map_readable().map_err(failed)?;
    let mut to = packed.map_writable().map_err(failed)?;
    for plane in 0..info.n_planes() {
        let Place { offset, stride, rows, row_bytes } =
            place((&meta, origin), info, plane, from.len())?;
        let to_offset = info.offset()[plane as usize];
        let to_stride = info.stride()[plane as usize] as usize;
        for row in 0..rows {
            let from = &from[offset + row * stride..][..row_bytes];
            to[to_offset + row * to_stride..][..row_bytes].copy_from_slice(from);
        }
    }
    Ok(())
}

/// Whether the frame of these caps is a part of what the buffer's video meta says, cut out by a crop meta.
pub fn is_cut(buffer: &gst::BufferRef, info: &VideoInfo) -> bool {
    buffer.meta::<VideoMeta>().is_some_and(|meta| is_larger(&meta, info))
}

fn is_larger(meta: &VideoMeta, info: &VideoInfo) -> bool {
    meta.width() > info.width() || meta.height() > info.height()
}

/// The pixel where the frame of these caps begins.
///
/// # Errors
/// [`Error::Frame`] when it does not end in the buffer's, or begins inside what its format packs together.
fn origin(buffer: &gst::BufferRef, meta: &VideoMeta, info: &VideoInfo) -> Result<(u32, u32)> {
    let crop = buffer.meta::<VideoCropMeta>().filter(|_| is_larger(meta, info));
    let Some((x, y, ..)) = crop.map(|crop| crop.rect()) else { return Ok((0, 0)) };
    let ends = |start: u32, len: u32| start.checked_add(len);
    let is_inside = ends(x, info.width()).is_some_and(|end| end <= meta.width())
        && ends(y, info.height()).is_some_and(|end| end <= meta.height());
    let has_bytes = (0..info.n_components() as u8).all(|c| info.comp_pstride(c) > 0);
    if !is_inside || x > 0 && !has_bytes {
        let (width, height) = (meta.width(), meta.height());
        return Err(Error::Frame(format!(
            "{}×{} cut from {x}, {y} of a buffer whose video meta says {} of {width}×{height}",
            info.width(),
            info.height(),
            info.format()
        )));
    }
    Ok((x, y))
}

/// Where a plane lies in `size` bytes, of a frame that begins at a pixel.
fn place(
    (meta, (x, y)): (&VideoMeta, (u32, u32)),
    info: &VideoInfo,
    plane: u32,
    size: usize,
) -> Result<Place> {
    let component = components(info, plane).next().unwrap_or(0);
    let rows = info.comp_height(component) as usize;
    let row_bytes = row_bytes(info, plane);
    let (start, stride) = (meta.offset()[plane as usize], meta.stride()[plane as usize]);
    // Subsampled planes have one sample for some pixels: the one that the first is in.
    let format = info.format_info();
    let row = y >> format.h_sub()[component as usize];
    // Packed pairs of pixels begin with the first of them.
    let own = format.w_sub()[component as usize];
    let of_plane = components(info, plane).map(|component| format.w_sub()[component as usize]);
    let most = of_plane.max().unwrap_or(own);
    let column = x >> most << (most - own);
    let skipped = (stride.max(0) as usize).checked_mul(row as usize);
    let across = column as usize * info.comp_pstride(component) as usize;
    let offset = skipped.and_then(|skipped| start.checked_add(skipped)?.checked_add(across));
    let offset = offset.unwrap_or(usize::MAX);
    let place = usize::try_from(stride).ok().filter(|&stride| stride >= row_bytes);
    let place = place.map(|stride| Place { offset, stride, rows, row_bytes });
    let ends = |place: &Place| {
        let last = place.stride.checked_mul(rows - 1)?;
        offset.checked_add(last)?.checked_add(row_bytes)
    };
    place.filter(|place| ends(place).is_some_and(|end| end <= size)).ok_or_else(|| {
        Error::Frame(format!(
            "a buffer of {size} bytes with plane {plane} from byte {offset} in rows of {stride}, \
             expected {rows} rows of at least {row_bytes} in it"
        ))
    })
}

/// Bytes of a row that hold pixels.
pub fn row_bytes(info: &VideoInfo, plane: u32) -> usize {
    let of =
        |component: u8| info.comp_width(component) as usize * info.comp_pstride(component) as usize;
    match components(info, plane).map(of).max() {
        // Samples are not whole bytes.
        Some(0) | None => info.stride()[plane as usize] as usize,
        Some(bytes) => bytes,
    }
}

/// The components, as GStreamer counts them, that are in a plane.
pub fn components(info: &VideoInfo, plane: u32) -> impl Iterator<Item = u8> {
    (0..info.n_components() as u8).filter(move |&component| info.comp_plane(component) == plane)
}

#[cfg(test)]
mod tests {
    use gst_video::{VideoFormat, VideoFrameFlags};

    use super::*;

    #[test]
    fn parts_begin_with_whole_groups_of_samples() {
        gst::init().unwrap();
        for (format, at, offsets) in [
            (VideoFormat::I420, (7, 5), &[5 * 32 + 7, 32 * 16 + 2 * 16 + 3][..]),
            (VideoFormat::Nv12, (7, 5), &[5 * 32 + 7, 32 * 16 + 2 * 32 + 6]),
            (VideoFormat::Yuy2, (7, 5), &[5 * 64 + 12]),
            (VideoFormat::Bgra, (7, 5), &[5 * 128 + 28]),
        ] {
            let whole = VideoInfo::builder(format, 32, 16).build().unwrap();
            let part = VideoInfo::builder(format, 20, 10).build().unwrap();
            let mut buffer = gst::Buffer::with_size(whole.size()).unwrap();
            let (flags, buffer) = (VideoFrameFlags::empty(), buffer.make_mut());
            VideoMeta::add(buffer, flags, format, 32, 16).unwrap();
            let meta = buffer.meta::<VideoMeta>().unwrap();
            for (plane, offset) in (0..).zip(offsets) {
                let place = place((&meta, at), &part, plane, whole.size()).unwrap();
                assert_eq!(place.offset, *offset, "{format:?} {plane}");
            }
        }
    }
}
