//! A 4:2:0 picture that owns its planes: the simplest thing to give to an engine.

use crate::frame::{
    Frame, FrameFormat, FrameMut, Plane, PlaneMut, Planes, SampleFormat, Subsampling,
};
use crate::{Error, Result};

/// Mid-grey luma and neutral chroma as the upper byte, or the only one, of a sample in the high bits.
const GREY: u16 = 0x8000;

/// Planes Y, U and V, rows without padding.
///
/// ```
/// use tunableconv::frame::{FrameFormat, Range, SampleFormat};
/// use tunableconv::picture::Picture;
///
/// let samples = SampleFormat::U8;
/// let format = FrameFormat { width: 5, height: 3, range: Range::Limited, samples };
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
    /// A picture of the bytes of these planes: `width × height` luma samples, then
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
                    "plane {name} has {got} bytes, {}×{} needs {expected}",
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
        let plane = |len| match format.samples {
            SampleFormat::U8 => vec![(GREY >> 8) as u8; len],
            SampleFormat::U10Low => (GREY >> 6).to_le_bytes().repeat(len / 2),
            SampleFormat::U12Low => (GREY >> 4).to_le_bytes().repeat(len / 2),
            SampleFormat::U10High | SampleFormat::U12High | SampleFormat::U16 => {
                GREY.to_le_bytes().repeat(len / 2)
            }
        };
        Self::new(format, lens(&format).map(plane))
    }

    /// Size, range and sample format.
    pub fn format(&self) -> FrameFormat {
        self.format
    }

    /// Bytes of Y, U and V.
    pub fn planes(&self) -> [&[u8]; 3] {
        self.planes.each_ref().map(Vec::as_slice)
    }

    /// A view to read.
    pub fn frame(&self) -> Frame<'_> {
        let (half_width, _) = self.format.half_size();
        let bytes = self.format.samples.bytes();
        let [y, u, v] = self.planes();
        let plane = |data, width| Plane { data, stride_bytes: width * bytes };
        let planes = Planes::Planar {
            y: plane(y, self.format.width),
            u: plane(u, half_width),
            v: plane(v, half_width),
            subsampling: Subsampling::Yuv420,
        };
        Frame::new(self.format, planes).expect("the planes were checked when the picture was made")
    }

    /// A view to write.
    pub fn frame_mut(&mut self) -> FrameMut<'_> {
        let (half_width, _) = self.format.half_size();
        let bytes = self.format.samples.bytes();
        let [y, u, v] = &mut self.planes;
        let plane = |data, width| PlaneMut { data, stride_bytes: width * bytes };
        let planes = Planes::Planar {
            y: plane(y, self.format.width),
            u: plane(u, half_width),
            v: plane(v, half_width),
            subsampling: Subsampling::Yuv420,
        };
        FrameMut::new(self.format, planes)
            .expect("the planes were checked when the picture was made")
    }
}

/// Bytes of Y, U and V.
fn lens(format: &FrameFormat) -> [usize; 3] {
    let (half_width, half_height) = format.half_size();
    let (bytes, chroma) = (format.samples.bytes(), half_width * half_height);
    [format.width * format.height * bytes, chroma * bytes, chroma * bytes]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Range;

    #[test]
    fn planes_of_another_length_are_refused_by_name() {
        let samples = SampleFormat::U8;
        let format = FrameFormat { width: 4, height: 4, range: Range::Full, samples };
        let planes = [vec![0; 16], vec![0; 4], vec![0; 5]];
        let error = Picture::new(format, planes).unwrap_err().to_string();
        assert_eq!(error, "frame: plane V has 5 bytes, 4×4 needs 4");
        assert!(Picture::grey(FrameFormat { width: 0, ..format }).is_err());
    }
}
