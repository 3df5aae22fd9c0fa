//! Values: those of the engine, bit for bit.

use candle_core::Tensor;
use tunableconv::engine::{Engine as _, InputScale, Precision};
use tunableconv::frame::{
    CHANNELS, Frame, FrameFormat, FrameMut, Plane, PlaneMut, Planes, Range, SampleFormat,
    Subsampling,
};
use tunableconv::tuning::Tuning;
use tunableconv_train::yuv::Yuv420;

use crate::nets::*;

#[test]
fn residuals_are_the_engines_bit_for_bit() {
    for (name, checkpoint) in nets() {
        let net = quantised(&checkpoint);
        let mut engine = engine(&checkpoint, Precision::Int8);
        let mut random = Random(5);
        let space = &checkpoint.metadata.tuning;
        let mut tunings: Vec<Tuning> = space.corners().collect();
        tunings.extend((0..7).map(|_| random.tuning(space)));
        let mut largest = 0f32;
        for (count, (width, height)) in
            [(2, (9, 7)), (3, (1, 1)), (4, (21, 16)), (1, (2, 13)), (4, (33, 5))]
        {
            for (batch, tunings) in tunings.chunks(count).enumerate() {
                let (each, len) = (1 + batch % 2, CHANNELS * width * height);
                let samples = each * tunings.len();
                let x = random.picture(samples * len);
                let shape = (samples, CHANNELS, height, width);
                let input = Tensor::from_slice(&x, shape, &DEVICE).unwrap();
                let chain = net.fold(&stack(tunings), &[InputScale::Tensor]).unwrap();
                let got = values(&chain.forward(&input).unwrap());
                for (n, (got, x)) in got.chunks_exact(len).zip(x.chunks_exact(len)).enumerate() {
                    let tuning = &tunings[n / each];
                    let want = residual(&mut engine, tuning, x, (width, height));
                    let at = tuning.values();
                    assert!(bits(got) == bits(&want), "{name} at {at:?}, {width}×{height}");
                    largest = want.iter().fold(largest, |l, v| l.max(v.abs()));
                }
            }
        }
        assert!(largest > 0.01, "{name}: {largest}");
    }
}

/// An 8-bit picture in one of the ranges.
struct Picture {
    format: FrameFormat,
    planes: [Vec<u8>; 3],
}

impl Picture {
    fn random((width, height): (usize, usize), range: Range, random: &mut Random) -> Self {
        let format = FrameFormat { width, height, range, samples: SampleFormat::U8 };
        let (half_width, half_height) = format.half_size();
        let mut plane =
            |len: usize| (0..len).map(|_| (127.9 + 127.9 * random.next()) as u8).collect();
        let chroma = half_width * half_height;
        Self { format, planes: [plane(width * height), plane(chroma), plane(chroma)] }
    }

    fn frame(&self) -> Frame<'_> {
        let (width, half) = (self.format.width, self.format.half_size().0);
        let plane = |index: usize, stride_bytes| Plane { data: &self.planes[index], stride_bytes };
        let (y, u, v) = (plane(0, width), plane(1, half), plane(2, half));
        let planes = Planes::Planar { y, u, v, subsampling: Subsampling::Yuv420 };
        Frame::new(self.format, planes).unwrap()
    }

    /// What `write` makes of it.
    fn written(&self, write: impl FnOnce(&Frame<'_>, &mut FrameMut<'_>)) -> [Vec<u8>; 3] {
        let (width, half) = (self.format.width, self.format.half_size().0);
        let mut planes = self.planes.clone().map(|plane| vec![0; plane.len()]);
        let [y, u, v] = &mut planes;
        let plane = |data, stride_bytes| PlaneMut { data, stride_bytes };
        let (y, u, v) = (plane(y, width), plane(u, half), plane(v, half));
        let planar = Planes::Planar { y, u, v, subsampling: Subsampling::Yuv420 };
        let mut output = FrameMut::new(self.format, planar).unwrap();
        write(&self.frame(), &mut output);
        planes
    }

    /// As the trainer's batches have it.
    fn normalised(&self) -> Vec<f32> {
        let [y, u, v] = self.planes.each_ref().map(Vec::as_slice);
        let yuv = Yuv420::from_bytes(self.format.width, self.format.height, [y, u, v]).unwrap();
        yuv.normalised(self.format.range)
    }
}

#[test]
fn frames_of_both_ranges_in_one_batch_are_the_engines() {
    let ranges = [Range::Limited, Range::Full, Range::Full, Range::Limited];
    let inputs = ranges.map(|range| InputScale::of_frames(range, 8));
    for (name, checkpoint) in nets() {
        let net = quantised(&checkpoint);
        let mut engine = engine(&checkpoint, Precision::Int8);
        let (mut random, mut differ) = (Random(6), false);
        let space = &checkpoint.metadata.tuning;
        for size in [(1, 1), (13, 9), (40, 22)] {
            let tunings = [random.tuning(space), space.corners().last().unwrap()];
            let pictures = ranges.map(|range| Picture::random(size, range, &mut random));
            let x: Vec<f32> = pictures.iter().flat_map(Picture::normalised).collect();
            let (width, height) = pictures[0].format.half_size();
            let shape = (4, CHANNELS, height, width);
            let x = Tensor::from_vec(x, shape, &DEVICE).unwrap();
            let forward = |inputs: &[InputScale]| {
                let chain = net.fold(&stack(&tunings), inputs).unwrap();
                values(&chain.forward(&x).unwrap())
            };
            let residuals = forward(&inputs);
            let len = CHANNELS * width * height;
            for (n, picture) in pictures.iter().enumerate() {
                engine.set_tuning(&tunings[n / 2]).unwrap();
                let want = picture.written(|input, output| engine.process(input, output).unwrap());
                let residual = &residuals[n * len..][..len];
                let got =
                    picture.written(|input, output| output.pack_sum(input, residual, 0.0).unwrap());
                assert!(got == want, "{name}, {size:?}, sample {n}");
                assert!(want != picture.planes, "{name}: the residual moves codes");
                // One scale for all samples is that for each of them.
                let alone = forward(&[inputs[n]]);
                assert!(bits(residual) == bits(&alone[n * len..][..len]), "{name}, {size:?}");
            }
            differ |= forward(&[InputScale::Tensor]) != residuals;
        }
        assert!(differ, "{name}: another scale, other integers");
    }
}
