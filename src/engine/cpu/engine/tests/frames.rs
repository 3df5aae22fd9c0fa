//! Frames of every size and layout, in every cut.

use super::*;

/// A picture of random samples in any layout, rows padded.
struct Planes {
    format: FrameFormat,
    layout: Layout,
    strides: [usize; 2],
    planes: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Planar,
    VFirstPlanar,
    SemiPlanar,
    VFirstSemiPlanar,
}

const LAYOUTS: [Layout; 4] =
    [Layout::Planar, Layout::VFirstPlanar, Layout::SemiPlanar, Layout::VFirstSemiPlanar];

fn pairs<P>(y: P, uv: P, v_first: bool) -> FramePlanes<P> {
    FramePlanes::SemiPlanar { y, uv, v_first, subsampling: Subsampling::Yuv420 }
}

impl Planes {
    fn random(format: FrameFormat, layout: Layout, padding: usize) -> Self {
        let (half_width, half_height) = format.half_size();
        let bytes = format.samples.bytes();
        let planar = matches!(layout, Layout::Planar | Layout::VFirstPlanar);
        let chroma_bytes = half_width * bytes * if planar { 1 } else { 2 };
        let strides = [format.width * bytes + padding, chroma_bytes + padding];
        let mut random = Random(format.width as u64);
        let mut plane = |len: usize| -> Vec<u8> {
            let code = |v: f32| match format.samples {
                SampleFormat::U8 => vec![(127.9 + 127.9 * v) as u8],
                SampleFormat::U10Low => ((511.9 + 511.9 * v) as u16).to_le_bytes().to_vec(),
                SampleFormat::U10High => (((511.9 + 511.9 * v) as u16) << 6).to_le_bytes().to_vec(),
                other => unreachable!("{other:?}"),
            };
            let mut values: Vec<u8> =
                (0..len.div_ceil(bytes)).flat_map(|_| code(random.next())).collect();
            values.truncate(len);
            values
        };
        let chroma = strides[1] * half_height;
        let mut planes = vec![plane(strides[0] * format.height), plane(chroma)];
        if planar {
            planes.push(plane(chroma));
        }
        Self { format, layout, strides, planes }
    }

    fn frame(&self) -> Frame<'_> {
        let [luma, chroma] = self.strides;
        let plane = |data, stride_bytes| Plane { data, stride_bytes };
        let of = |index: usize| plane(&self.planes[index], chroma);
        let y = plane(&self.planes[0], luma);
        let planar = |u, v| FramePlanes::Planar { y, u, v, subsampling: Subsampling::Yuv420 };
        let planes = match self.layout {
            Layout::Planar => planar(of(1), of(2)),
            Layout::VFirstPlanar => planar(of(2), of(1)),
            Layout::SemiPlanar => pairs(y, of(1), false),
            Layout::VFirstSemiPlanar => pairs(y, of(1), true),
        };
        Frame::new(self.format, planes).unwrap()
    }

    fn frame_mut(&mut self) -> FrameMut<'_> {
        let [luma, chroma] = self.strides;
        let (y, rest) = self.planes.split_first_mut().unwrap();
        let mut rest =
            rest.iter_mut().map(|data| PlaneMut { data: &mut data[..], stride_bytes: chroma });
        let first = rest.next().unwrap();
        let y = PlaneMut { data: y, stride_bytes: luma };
        let subsampling = Subsampling::Yuv420;
        let planes = match self.layout {
            Layout::Planar => {
                FramePlanes::Planar { y, u: first, v: rest.next().unwrap(), subsampling }
            }
            Layout::VFirstPlanar => {
                FramePlanes::Planar { y, v: first, u: rest.next().unwrap(), subsampling }
            }
            Layout::SemiPlanar => pairs(y, first, false),
            Layout::VFirstSemiPlanar => pairs(y, first, true),
        };
        FrameMut::new(self.format, planes).unwrap()
    }

    /// What the engine makes of it; the output's rows are padded by other amounts.
    fn filtered(&self, engine: &mut dyn Engine) -> Self {
        let mut output = Self::random(self.format, self.layout, 7 * self.format.samples.bytes());
        engine.process(&self.frame(), &mut output.frame_mut()).unwrap();
        output
    }

    /// Code values of every plane, without padding.
    fn codes(&self) -> Vec<u16> {
        let (half_width, _) = self.format.half_size();
        let bytes = self.format.samples.bytes();
        let per_pixel = 4 - self.planes.len();
        let mut codes = vec![];
        for (index, plane) in self.planes.iter().enumerate() {
            let (stride, width) = match index {
                0 => (self.strides[0], self.format.width),
                _ => (self.strides[1], half_width * per_pixel),
            };
            for row in plane.chunks_exact(stride) {
                codes.extend(row[..width * bytes].chunks_exact(bytes).map(|sample| {
                    match self.format.samples {
                        SampleFormat::U8 => u16::from(sample[0]),
                        SampleFormat::U10Low => u16::from_le_bytes([sample[0], sample[1]]),
                        SampleFormat::U10High => u16::from_le_bytes([sample[0], sample[1]]) >> 6,
                        other => unreachable!("{other:?}"),
                    }
                }));
            }
        }
        codes
    }
}

const SIZES: [(usize, usize); 9] =
    [(1, 1), (2, 2), (3, 1), (1, 7), (17, 5), (130, 66), (641, 3), (32, 200), (4097, 33)];

#[test]
fn frames_of_every_size_and_layout_are_candles() {
    let checkpoint = video_net(8, 2, 7);
    let net = std::sync::Arc::new(Net::new(&checkpoint, &Device::Cpu).unwrap());
    let mut candle = CandleEngine::new(net, 0, "").unwrap();
    let mut engine = CpuEngine::new(&checkpoint, &options(Precision::F32, 2)).unwrap();
    for (index, (width, height)) in SIZES.into_iter().enumerate() {
        for samples in [SampleFormat::U8, SampleFormat::U10Low, SampleFormat::U10High] {
            for (padding, layout) in LAYOUTS.into_iter().enumerate() {
                let range = if (index + padding) % 2 == 0 { Range::Limited } else { Range::Full };
                let format = FrameFormat { width, height, range, samples };
                let picture = Planes::random(format, layout, 3 * padding);
                let (got, want) = (picture.filtered(&mut engine), picture.filtered(&mut candle));
                // Where the sum falls on a half, an error in the last place decides.
                let (got, want, input) = (got.codes(), want.codes(), picture.codes());
                let unequal = got.iter().zip(&want).filter(|(a, b)| a != b).count();
                let worst = got.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max();
                let context = format!("{width}×{height} {samples:?} {layout:?} {range:?}");
                assert!(worst <= Some(1), "{context}: {worst:?}");
                assert!(unequal * 200 <= got.len(), "{context}: {unequal} of {}", got.len());
                assert!(got != input || got.len() < 10, "{context}: the net should do something");
            }
        }
    }
}

#[test]
fn int8_takes_every_size_and_layout() {
    let checkpoint = video_net(8, 2, 7);
    let mut engine = CpuEngine::new(&checkpoint, &options(Precision::Int8, 2)).unwrap();
    let mut scalar = at_level(&checkpoint, &options(Precision::Int8, 1), Level::Scalar);
    for (width, height) in SIZES {
        for samples in [SampleFormat::U8, SampleFormat::U10Low, SampleFormat::U10High] {
            for (padding, layout) in LAYOUTS.into_iter().enumerate() {
                let format = FrameFormat { width, height, range: Range::Limited, samples };
                let picture = Planes::random(format, layout, 5 * padding);
                let (got, want) = (picture.filtered(&mut engine), picture.filtered(&mut scalar));
                assert!(got.codes() == want.codes(), "{width}×{height} {samples:?} {layout:?}");
            }
        }
    }
}

#[test]
fn bands_strips_and_threads_never_change_a_bit() {
    let (chain, two_scales) = (video_net(16, 3, 5), net(two_scale([16, 24], [0, 1, 1]), 5));
    let nets = [&chain, &two_scales];
    let precisions = [Precision::F32, Precision::Int8];
    for (checkpoint, precision) in nets.into_iter().flat_map(|net| precisions.map(|p| (net, p))) {
        for level in levels() {
            for (width, height) in [(6, 5), (66, 3), (201, 131)] {
                let range = Range::Limited;
                let format = FrameFormat { width, height, range, samples: SampleFormat::U8 };
                let picture = Planes::random(format, Layout::Planar, 0);
                let mut want = None;
                for threads in [1, 2, 5] {
                    let options = options(precision, threads);
                    let mut engine = at_level(checkpoint, &options, level);
                    for (bands, strips) in [(1, 1), (2, 1), (1, 2), (3, 5), (66, 1), (1, 101)] {
                        let tiling = Some(Tiling { rounds: 1, bands, strips });
                        let mut out = Planes::random(format, Layout::Planar, 0);
                        engine
                            .process_tiled(&picture.frame(), &mut out.frame_mut(), tiling)
                            .unwrap();
                        let want = want.get_or_insert_with(|| out.planes.clone());
                        assert!(
                            out.planes == *want,
                            "{precision} {} {width}×{height}: {threads} threads, {tiling:?}",
                            level.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn cuts_rounds_bands_strips_and_threads_never_change_a_bit_of_a_picture() {
    let tilings = [(1, 1, 1), (1, 2, 1), (1, 1, 2), (3, 2, 2), (7, 3, 5), (1, 66, 101)];
    let nets = [1, 2, 3, 4].map(|scale| (16, scale, Precision::F32));
    let others = [(48, 1, Precision::F32), (16, 1, Precision::Int8), (16, 2, Precision::Int8)];
    for (channels, scale, precision) in nets.into_iter().chain(others) {
        // A head, three blocks of two layers, a layer to which the head is added, what enlarges, a tail.
        let checkpoint = net(edsr(channels, 3, scale), 5);
        let layers = checkpoint.metadata.architecture.chain().unwrap().len();
        let everywhere: Vec<_> = (1..layers).collect();
        for level in levels() {
            for (width, height) in [(6, 5), (85, 22)] {
                let (size, out_size) = ((width, height), (scale * width, scale * height));
                let x = Random(3).values(3 * width * height, 1.0);
                let mut want = None;
                for (cuts, threads) in
                    [(&[][..], 1), (&[1, 3], 5), (&[1, 3, 5, 8], 3), (&everywhere, 2)]
                {
                    let mut engine = cut_engine(&checkpoint, cuts, precision, threads, level);
                    for (rounds, bands, strips) in tilings {
                        let tiling = Some(Tiling { rounds, bands, strips });
                        let mut got = vec![f32::NAN; 3 * out_size.0 * out_size.1];
                        engine.run_tensor((&x, size), (&mut got, out_size), tiling).unwrap();
                        let want = want.get_or_insert_with(|| got.clone());
                        assert!(
                            got == *want,
                            "{channels} ×{scale} {precision} {} {size:?}: cut at {cuts:?}, {threads} threads, {tiling:?}",
                            level.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn frames_through_nets_in_rgb_are_candles() {
    for architecture in [
        edsr(8, 1, 1),
        edsr(8, 1, 3),
        plain(Colour::Rgb, 8, 2, true),
        plain(Colour::Rgb, 8, 1, false),
        plain(Colour::Luma, 8, 1, true),
        plain(Colour::Luma, 8, 2, false),
        coarse(16, 1),
    ] {
        let scale = architecture.io().scale;
        let mut checkpoint = net(architecture.clone(), 5);
        // Colours near those of the input.
        let last = checkpoint.metadata.architecture.chain().unwrap().pop().unwrap().name;
        for (name, values) in &mut checkpoint.tensors {
            if name.starts_with(&last) {
                values.iter_mut().for_each(|value| *value *= 0.1);
            }
        }
        let candle = Net::new(&checkpoint, &Device::Cpu).unwrap();
        let mut candle = CandleEngine::new(Arc::new(candle), 1, "").unwrap();
        let mut engine = CpuEngine::new(&checkpoint, &options(Precision::F32, 2)).unwrap();
        assert!(!engine.is_identity());
        for (width, height) in [(1, 1), (34, 17), (9, 40)] {
            let range = Range::Limited;
            let format = FrameFormat { width, height, range, samples: SampleFormat::U8 };
            let picture = Planes::random(format, Layout::Planar, 0);
            let large = FrameFormat { width: scale * width, height: scale * height, ..format };
            let mut made = [(); 2].map(|()| Planes::random(large, Layout::Planar, 0));
            let engines: [&mut dyn Engine; 2] = [&mut engine, &mut candle];
            for (made, engine) in made.iter_mut().zip(engines) {
                engine.process(&picture.frame(), &mut made.frame_mut()).unwrap();
            }
            let [got, want] = made.map(|made| made.codes());
            let apart = got.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(apart <= 1, "{architecture:?} {width}×{height}: {apart}");
            assert!(want.iter().any(|code| *code != want[0]) || width == 1);
        }
    }
}

#[test]
fn a_new_size_or_tuning_leaves_nothing_of_the_old() {
    let checkpoint = video_net(8, 2, 3);
    for precision in [Precision::F32, Precision::Int8] {
        let options = options(precision, 2);
        let mut used = CpuEngine::new(&checkpoint, &options).unwrap();
        for (index, (width, height)) in [(64, 48), (7, 5), (130, 66), (64, 48)].iter().enumerate() {
            let samples = [SampleFormat::U8, SampleFormat::U10Low][index % 2];
            let range = Range::Limited;
            let format = FrameFormat { width: *width, height: *height, range, samples };
            let picture = Planes::random(format, Layout::SemiPlanar, 0);
            let omega = [0.2 * index as f64, 1.0 - 0.3 * index as f64];
            let mut fresh = CpuEngine::new(&checkpoint, &options).unwrap();
            for engine in [&mut used, &mut fresh] {
                tune(engine, omega);
            }
            let (got, want) = (picture.filtered(&mut used), picture.filtered(&mut fresh));
            assert!(got.planes == want.planes, "{precision} {format:?}");
        }
    }
}

#[test]
fn zero_tuning_of_the_built_in_net_is_the_identity() {
    let checkpoint = Checkpoint::built_in().unwrap();
    for precision in [Precision::F32, Precision::Int8] {
        let mut engine = CpuEngine::new(&checkpoint, &options(precision, 2)).unwrap();
        tune(&mut engine, [0.0, 0.0]);
        assert!(engine.is_identity());
        for samples in [SampleFormat::U8, SampleFormat::U10High] {
            let format = FrameFormat { width: 67, height: 35, range: Range::Limited, samples };
            let picture = Planes::random(format, Layout::Planar, 0);
            assert!(picture.filtered(&mut engine).codes() == picture.codes(), "{precision}");
        }
    }
}

#[test]
fn tensors_of_another_length_are_refused() {
    let checkpoint = video_net(8, 1, 3);
    let mut engine = CpuEngine::new(&checkpoint, &options(Precision::F32, 1)).unwrap();
    let (x, mut out) = (vec![0.0; 6 * 12], vec![0.0; 6 * 12]);
    for size in [(4, 4), (0, 3), (3, 5)] {
        let error = engine.residual(&x, size, &mut out).unwrap_err().to_string();
        assert!(error.contains("72 values") && error.contains("expected 6×"), "{error}");
    }
    engine.residual(&x, (4, 3), &mut out).unwrap();
}
