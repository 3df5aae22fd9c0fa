//! Pictures in RGB at another size.

use crate::resample::{Axis, Filter, transpose};
use crate::{Error, Result};

use super::direct::COLOURS;
use super::{Frame, FrameMut};

/// Makes a picture of another size: bicubic, in RGB; alpha and padding of packed pixels are those of the
/// nearest pixel.
pub struct Rescale {
    sizes: [[usize; 2]; 2],
    /// Across and down.
    axes: [Axis; 2],
    /// Scratch space: planes of the input and of the output, and one in between.
    planes: [Vec<f32>; 2],
    columns: [Vec<f32>; 2],
}

impl Rescale {
    /// From frames of one width and height to those of another.
    ///
    /// # Panics
    /// If one of them is 0.
    pub fn new(from: [usize; 2], to: [usize; 2]) -> Self {
        assert!(from.into_iter().chain(to).all(|side| side > 0), "{from:?} to {to:?}");
        let planes = [from, to].map(|[width, height]| vec![0.0; COLOURS * width * height]);
        let axes = [0, 1].map(|side| Axis::new(Filter::Bicubic, from[side], to[side]));
        Self { sizes: [from, to], axes, planes, columns: [vec![], vec![]] }
    }

    /// Writes the input's picture.
    ///
    /// # Errors
    /// [`Error::Frame`] when the frames have other sizes.
    pub fn run(&mut self, input: &Frame<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        let got = [input.format, output.format].map(|format| [format.width, format.height]);
        if got != self.sizes {
            let [from, to] = self.sizes;
            return Err(Error::Frame(format!("sizes {got:?}, expected {from:?} to {to:?}")));
        }
        self.read(input);
        output.pack_rgb(input, self.enlarge());
        Ok(())
    }

    /// R, G and B of a frame of the first size.
    pub(super) fn read(&mut self, input: &Frame<'_>) -> &[f32] {
        input.unpack_rgb(&mut self.planes[0]);
        &self.planes[0]
    }

    /// The picture that was read, in the second size.
    pub(super) fn enlarge(&mut self) -> &mut [f32] {
        let [[width, height], [new_width, new_height]] = self.sizes;
        let [from, to] = &mut self.planes;
        if self.sizes[0] == self.sizes[1] {
            to.copy_from_slice(from);
            return to;
        }
        let [other, columns] = &mut self.columns;
        let planes = from.chunks_exact(width * height);
        for (plane, out) in planes.zip(to.chunks_exact_mut(new_width * new_height)) {
            self.axes[1].columns(plane, width, other);
            transpose(other, width, columns);
            self.axes[0].columns(columns, new_height, other);
            transpose(other, new_height, columns);
            out.copy_from_slice(columns);
        }
        to
    }
}
