//! Filtered and unfiltered picture in one: side by side, or blended. The input's frame may be larger
//! than the output's, which has the size of the caps.

use gstreamer as gst;
use gstreamer_video as gst_video;

use gst_video::VideoFrameRef;
use gst_video::prelude::*;

use super::memory::{components, row_bytes};

/// The component that is alpha, as GStreamer counts them.
const ALPHA: u8 = 3;

/// Weights are in this many steps.
const STEPS: i32 = 256;

type Input<'a> = VideoFrameRef<&'a gst::BufferRef>;
type Output<'a> = VideoFrameRef<&'a mut gst::BufferRef>;

/// Copies the left half of the input, up to an even column, over that of the output.
pub fn split(input: &Input<'_>, output: &mut Output<'_>) {
    let columns = (output.width() / 2) & !1;
    for plane in 0..input.n_planes() {
        let component = first_component(input, plane) as usize;
        let columns = columns >> input.format_info().w_sub()[component];
        let bytes = columns as usize * input.comp_pstride(component as u32) as usize;
        rows(input, output, plane, bytes, |from, to| to.copy_from_slice(from));
    }
}

/// Makes the output `weight` of itself and the rest of the input, rounded to the nearest.
pub fn blend(input: &Input<'_>, output: &mut Output<'_>, weight: f64) {
    let weight = (weight * f64::from(STEPS)).round() as i32;
    let mix = |from: i32, to: i32| from + ((to - from) * weight + STEPS / 2).div_euclid(STEPS);
    for plane in 0..input.n_planes() {
        let component = first_component(input, plane) as usize;
        let bytes = row_bytes(output.info(), plane);
        if input.format_info().depth()[component] == 8 {
            rows(input, output, plane, bytes, |from, to| {
                for (to, &from) in to.iter_mut().zip(from) {
                    *to = mix(from.into(), i32::from(*to)) as u8;
                }
            });
        } else {
            let shift = input.format_info().shift()[component];
            let others = !(u16::MAX << shift);
            rows(input, output, plane, bytes, |from, to| {
                let words = from.as_chunks::<2>().0.iter().zip(to.as_chunks_mut::<2>().0);
                for (from, to) in words {
                    let [before, after] = [*from, *to].map(u16::from_le_bytes);
                    let mixed = mix(i32::from(before >> shift), i32::from(after >> shift)) as u16;
                    *to = (mixed << shift | before & others).to_le_bytes();
                }
            });
        }
    }
}

/// Copies what has planes of its own beside Y, U and V or R, G and B: of the nearest pixels where the output
/// is so many times as large.
pub fn copy_alpha(input: &Input<'_>, output: &mut Output<'_>, scale: usize) {
    for plane in 0..input.n_planes() {
        if first_component(input, plane) != ALPHA {
            continue;
        }
        let (bytes, index) = (row_bytes(output.info(), plane), plane as usize);
        if scale == 1 {
            rows(input, output, plane, bytes, |from, to| to.copy_from_slice(from));
            continue;
        }
        let step = input.comp_pstride(ALPHA.into()) as usize;
        let (from_stride, to_stride) =
            (input.plane_stride()[index] as usize, output.plane_stride()[index] as usize);
        let height = output.height() as usize;
        let (from, to) = (input.planes_data()[index], &mut *output.planes_data_mut()[index]);
        for y in 0..height {
            let from = &from[y / scale * from_stride..];
            let to = &mut to[y * to_stride..][..bytes];
            for (x, to) in to.chunks_exact_mut(step).enumerate() {
                to.copy_from_slice(&from[x / scale * step..][..step]);
            }
        }
    }
}

/// Calls `row` with the first bytes of every row of a plane.
fn rows(
    input: &Input<'_>,
    output: &mut Output<'_>,
    plane: u32,
    bytes: usize,
    mut row: impl FnMut(&[u8], &mut [u8]),
) {
    let index = plane as usize;
    let height = output.comp_height(first_component(input, plane).into()) as usize;
    let (from_stride, to_stride) =
        (input.plane_stride()[index] as usize, output.plane_stride()[index] as usize);
    let (from, to) = (input.planes_data()[index], &mut *output.planes_data_mut()[index]);
    for y in 0..height {
        row(&from[y * from_stride..][..bytes], &mut to[y * to_stride..][..bytes]);
    }
}

/// The first component, as GStreamer counts them, that is in a plane.
fn first_component(frame: &Input<'_>, plane: u32) -> u8 {
    components(frame.info(), plane).next().unwrap_or(0)
}
