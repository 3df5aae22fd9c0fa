//! An 8-bit 4:2:0 picture that owns its planes: the simplest thing to give to an engine.

use crate::frame::{Chroma, Frame, FrameFormat, FrameMut, Plane, PlaneMut};
use crate::{Error, Result};

/// Code value of mid-grey luma and of neutral chroma.
const GREY: u8 = 128;

/// Planes Y, U and V, rows without padding.
///
/// ```
/// use tunableconv::frame::{FrameFormat, Range};
/// use tunableconv::picture::Picture;
///
/// let format = FrameFormat { width: 5, height: 3, range: Range::Limited };
/// let picture = Picture::grey(format)?;
/// assert_eq!(picture.planes().map(<[u8]>::len), [15, 6, 6]);
/// # Ok::<(), tunableconv::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    format: FrameFormat,
    planes: [Vec<u8>; 3],
}

impl Picture {
    /// A picture of these planes: `width × height` luma samples, then
    /// `ceil(width / 2) × ceil(height / 2)` of U and of V.
    ///
    /// # Errors
    /// [`Error::Frame`] when the size is out of bounds or a plane has another length.
    pub fn new(format: FrameFormat, planes: [Vec<u8>; 3]) -> Result<Self> {
        format.validate()?;
        for ((name, plane), expected) in ["Y", "U", "V"].iter().zip(&planes).zip(lens(&format)) {
            if plane.len() != expected {
                let got = plane.len();
                return Err(Error::Frame(format!(
                    "plane {name} has {got} samples, {}×{} needs {expected}",
                    format.width, format.height
                )));
            }
        }
        Ok(Self { format, planes })
    }

    /// A picture of mid-grey.
    ///
    /// # Errors
    /// [`Error::Frame`] when the size is out of bounds.
    pub fn grey(format: FrameFormat) -> Result<Self> {
        format.validate()?;
        Self::new(format, lens(&format).map(|len| vec![GREY; len]))
    }

    /// Size and range.
    pub fn format(&self) -> FrameFormat {
        self.format
    }

    /// Y, U and V.
    pub fn planes(&self) -> [&[u8]; 3] {
        self.planes.each_ref().map(Vec::as_slice)
    }

    /// A view to read.
    pub fn frame(&self) -> Frame<'_> {
        let (half_width, _) = self.format.half_size();
        let [y, u, v] = self.planes();
        let plane = |data, stride_bytes| Plane { data, stride_bytes };
        let chroma = Chroma::Planar { u: plane(u, half_width), v: plane(v, half_width) };
        Frame::new(self.format, plane(y, self.format.width), chroma)
            .expect("the planes were checked when the picture was made")
    }

    /// A view to write.
    pub fn frame_mut(&mut self) -> FrameMut<'_> {
        let (half_width, _) = self.format.half_size();
        let [y, u, v] = &mut self.planes;
        let plane = |data, stride_bytes| PlaneMut { data, stride_bytes };
        let chroma = Chroma::Planar { u: plane(u, half_width), v: plane(v, half_width) };
        FrameMut::new(self.format, plane(y, self.format.width), chroma)
            .expect("the planes were checked when the picture was made")
    }
}

/// Samples of Y, U and V.
fn lens(format: &FrameFormat) -> [usize; 3] {
    let (half_width, half_height) = format.half_size();
    let chroma = half_width * half_height;
    [format.width * format.height, chroma, chroma]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Range;

    #[test]
    fn planes_of_another_length_are_refused_by_name() {
        let format = FrameFormat { width: 4, height: 4, range: Range::Full };
        let planes = [vec![0; 16], vec![0; 4], vec![0; 5]];
        let error = Picture::new(format, planes).unwrap_err().to_string();
        assert_eq!(error, "frame: plane V has 5 samples, 4×4 needs 4");
        assert!(Picture::grey(FrameFormat { width: 0, ..format }).is_err());
    }
}
