//! Frames of 4:2:0 as a GPU has them: whole planes, and where samples lie in them.

use super::{Frame, FrameFormat, FrameMut, Normal, Plane, Planes, SampleFormat, Subsampling};

/// Where the samples of Y, U or V lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Component {
    /// Which of the planes.
    pub(crate) plane: usize,
    /// Bytes from the beginning of a row to the first sample.
    pub(crate) offset: usize,
    /// Bytes from one sample to the next.
    pub(crate) step: usize,
}

/// The planes of a frame of 4:2:0, and Y, U and V in them.
pub(crate) struct Yuv420<P> {
    /// Two or three, first those that there are.
    pub(crate) planes: [Option<P>; 3],
    /// Y, U and V.
    pub(crate) components: [Component; 3],
}

/// How codes are normalised.
pub(crate) struct Codes {
    /// Twice the code of 0, of luma and of chroma.
    pub(crate) zero: [i32; 2],
    /// Worth of half a code.
    pub(crate) scale: [f32; 2],
    /// Codes from 0 to 1.
    pub(crate) span: [f32; 2],
    /// Bits below the code in its word.
    pub(crate) shift: u32,
}

impl<P> Planes<P> {
    fn into_yuv420(self, bytes: usize) -> Option<Yuv420<P>> {
        let one = |plane, offset, step| Component { plane, offset, step };
        match self {
            Self::Planar { y, u, v, subsampling: Subsampling::Yuv420 } => Some(Yuv420 {
                planes: [Some(y), Some(u), Some(v)],
                components: [0, 1, 2].map(|plane| one(plane, 0, bytes)),
            }),
            Self::SemiPlanar { y, uv, v_first, subsampling: Subsampling::Yuv420 } => {
                let [u, v] = if v_first { [bytes, 0] } else { [0, bytes] };
                let chroma = |offset| one(1, offset, 2 * bytes);
                Some(Yuv420 {
                    planes: [Some(y), Some(uv), None],
                    components: [one(0, 0, bytes), chroma(u), chroma(v)],
                })
            }
            _ => None,
        }
    }
}

impl<'a> Frame<'a> {
    /// Its planes, if it is 4:2:0.
    pub(crate) fn yuv420(&self) -> Option<Yuv420<Plane<'a>>> {
        self.planes.map(|plane| plane).into_yuv420(self.format.samples.bytes())
    }
}

impl FrameMut<'_> {
    /// Its planes, if it is 4:2:0: data and stride in bytes.
    pub(crate) fn yuv420(&mut self) -> Option<Yuv420<(&mut [u8], usize)>> {
        let planes = self.planes.as_mut().map(|plane| (&mut *plane.data, plane.stride_bytes));
        planes.into_yuv420(self.format.samples.bytes())
    }
}

impl FrameFormat {
    /// How its codes are normalised.
    pub(crate) fn codes(&self) -> Codes {
        let bits = self.samples.bits();
        let normals = [self.range.luma(bits), self.range.chroma(bits)].map(Normal::new);
        let shift = match self.samples {
            SampleFormat::U10High | SampleFormat::U12High => 16 - bits,
            _ => 0,
        };
        Codes {
            zero: normals.map(|normal| normal.zero()),
            scale: normals.map(|normal| normal.scale()),
            span: normals.map(|normal| normal.span()),
            shift,
        }
    }
}
