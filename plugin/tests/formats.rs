//! Every pixel format against its definition: all samples to float luma and chroma, the net on
//! 4:2:0, and what it adds to each sample.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use candle_core::{Device, Tensor};
use common::{Model, Random, stamped};
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_check::Harness;
use gst_video::prelude::*;
use gst_video::video_frame::Readable;
use gst_video::{
    VideoColorRange, VideoFormat, VideoFrame, VideoFrameFlags, VideoInfo, VideoInterlaceMode,
    VideoMeta, VideoPackFlags,
};
use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::{self, Options};
use tunableconv::net::Net;

/// Those that GStreamer's own functions unpack here.
const UNPACKED: [&str; 10] = [
    "v210",
    "Y210",
    "Y212_LE",
    "Y410",
    "Y412_LE",
    "Y41B",
    "GRAY10_LE32",
    "r210",
    "RGB10A2_LE",
    "BGR10A2_LE",
];

/// All that the element takes.
fn formats() -> Vec<VideoFormat> {
    common::init();
    let factory = gst::ElementFactory::find("tunableconvfilter").unwrap();
    let templates = factory.static_pad_templates();
    let template = templates.iter().find(|pad| pad.direction() == gst::PadDirection::Sink).unwrap();
    let caps = template.caps();
    let names = caps.iter_with_features().filter(|(_, features)| {
        features.is_equal(&gst::CapsFeatures::new_empty())
            || features.is_equal(&gst::CAPS_FEATURES_MEMORY_SYSTEM_MEMORY)
    });
    let names = names.flat_map(|(structure, _)| {
        let names = structure.get::<gst::List>("format").unwrap();
        names.iter().map(|name| name.get::<String>().unwrap()).collect::<Vec<_>>()
    });
    names.map(|name| VideoFormat::from_string(&name)).collect()
}

const SIZES: [(usize, usize); 5] = [(1, 1), (3, 2), (16, 16), (33, 17), (130, 7)];

/// Codes of every component, alpha and padding included, without padding between rows.
#[derive(Clone)]
struct Samples {
    /// Of the unpacked frame, if it was.
    info: VideoInfo,
    /// Bits of a sample.
    bits: u32,
    is_grey: bool,
    /// How many pixels share their chroma, as a power of two, where they were unpacked.
    shared: u32,
    /// Width and codes of each component.
    components: Vec<(usize, Vec<u16>)>,
}

impl Samples {
    fn read(info: &VideoInfo, buffer: gst::Buffer) -> Self {
        let frame = VideoFrame::from_buffer_readable(buffer, info).unwrap();
        let (bits, is_grey) = (info.comp_depth(0), info.is_gray());
        if UNPACKED.contains(&info.format().to_str().as_str()) {
            let (info, components) = unpacked(&frame);
            let shared = frame.format_info().w_sub().get(1).copied().unwrap_or_default();
            return Self { info, bits, is_grey, shared, components };
        }
        let components = (0..frame.n_components()).map(|component| {
            let (width, height) = (frame.comp_width(component), frame.comp_height(component));
            let (stride, step) = (frame.comp_stride(component), frame.comp_pstride(component));
            let format = frame.format_info();
            let plane = frame.plane_data(format.plane()[component as usize]).unwrap();
            // GStreamer 1.22 says that V of P010 starts in the middle of U.
            let offset = match (info.format(), component) {
                (VideoFormat::P01010le | VideoFormat::P012Le | VideoFormat::P016Le, 2) => 2,
                _ => frame.comp_poffset(component) as usize,
            };
            let data = &plane[offset..];
            let shift = frame.format_info().shift()[component as usize];
            let code = |y: i32, x: i32| {
                let at = (y * stride + x * step) as usize;
                match frame.format_info().depth()[component as usize] {
                    8 => u16::from(data[at]),
                    _ => u16::from_le_bytes([data[at], data[at + 1]]) >> shift,
                }
            };
            let codes = (0..height as i32).flat_map(|y| (0..width as i32).map(move |x| (y, x)));
            (width as usize, codes.map(|(y, x)| code(y, x)).collect())
        });
        let components = components.collect();
        Self { info: info.clone(), bits, is_grey, shared: 0, components }
    }

    /// Every second row, from this one on.
    fn field(&self, first: usize) -> Self {
        let height = (self.info.height() as usize + 1 - first) / 2;
        let info = VideoInfo::builder(self.info.format(), self.info.width(), height as u32);
        let info = info.colorimetry(&self.info.colorimetry()).build().unwrap();
        let of_component = |(width, codes): &(usize, Vec<u16>)| {
            let rows = codes.chunks(*width).skip(first).step_by(2);
            (*width, rows.flatten().copied().collect())
        };
        Self { info, components: self.components.iter().map(of_component).collect(), ..*self }
    }

    /// What is filtered on its own.
    fn pictures(&self) -> Vec<Self> {
        match self.info.interlace_mode() {
            VideoInterlaceMode::Interleaved => vec![self.field(0), self.field(1)],
            _ => vec![self.clone()],
        }
    }

    fn code(&self, component: usize, (x, y): (usize, usize)) -> f64 {
        let format = self.info.format_info();
        let Some((width, codes)) = self.components.get(component) else { return 128.0 };
        let (x, y) = (x >> format.w_sub()[component], y >> format.h_sub()[component]);
        f64::from(codes[y * width + x])
    }

    /// Code of normalised 0, and codes from there to 1, of a component.
    fn span(&self, component: usize) -> (f64, f64) {
        let unit = f64::from(1 << (self.bits - 8));
        let is_luma = self.info.is_rgb() || component == 0;
        match (self.info.colorimetry().range(), is_luma) {
            (VideoColorRange::Range0_255, true) => (0.0, 256.0 * unit - 1.0),
            (VideoColorRange::Range0_255, false) => (0.5, 256.0 * unit - 1.0),
            (_, true) => (16.0 * unit, 219.0 * unit),
            (_, false) => (16.0 * unit, 224.0 * unit),
        }
    }

    fn normalised(&self, component: usize, at: (usize, usize)) -> f64 {
        let (zero, span) = self.span(component);
        (self.code(component, at) - zero) / span
    }

    /// Y, U and V of a pixel.
    fn yuv(&self, at: (usize, usize), (kr, kb): (f64, f64)) -> [f64; 3] {
        let [a, b, c] = [0, 1, 2].map(|component| self.normalised(component, at));
        if self.is_grey {
            return [a, 0.5, 0.5];
        }
        if !self.info.is_rgb() {
            return [a, b, c];
        }
        let y = kr * a + (1.0 - kr - kb) * b + kb * c;
        [y, 0.5 * (c - y) / (1.0 - kb) + 0.5, 0.5 * (a - y) / (1.0 - kr) + 0.5]
    }

    /// What the net must make of every sample of the components it changes, before rounding.
    fn filtered(&self, net: &Net, tuning: &[f64], smoothing: f64, k: (f64, f64)) -> Vec<Vec<f64>> {
        let (kr, kb) = k;
        let (width, height) = (self.info.width() as usize, self.info.height() as usize);
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let area = half_width * half_height;
        let pixel = |x: usize, y: usize| self.yuv((x.min(width - 1), y.min(height - 1)), k);
        let mut x = vec![0f32; 6 * area];
        let mut means = vec![[0.0; 3]; area];
        for (i, mean) in means.iter_mut().enumerate() {
            for (j, (row, column)) in [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().enumerate() {
                let yuv = pixel(2 * (i % half_width) + column, 2 * (i / half_width) + row);
                x[j * area + i] = yuv[0] as f32;
                mean.iter_mut().zip(yuv).for_each(|(mean, v)| *mean += v / 4.0);
            }
            x[4 * area + i] = mean[1] as f32;
            x[5 * area + i] = mean[2] as f32;
        }
        let x = Tensor::from_vec(x, (1, 6, half_height, half_width), &Device::Cpu).unwrap();
        let tuning = net.metadata().tuning.tuning(tuning).unwrap();
        let residual = candle_core::Module::forward(&net.fold(&tuning).unwrap(), &x).unwrap();
        let residual = residual.flatten_all().unwrap().to_vec1::<f32>().unwrap();

        let changed = if self.is_grey { 1 } else { 3 };
        let component = |which: usize| {
            let format = self.info.format_info();
            let sub = (format.w_sub()[which], format.h_sub()[which]);
            let (columns, codes) = &self.components[which];
            let sample = |(index, &code): (usize, &u16)| {
                let mut at = ((index % columns) << sub.0, (index / columns) << sub.1);
                if which > 0 && !self.info.is_rgb() {
                    // The first of the pixels tells.
                    at.0 = at.0 >> self.shared << self.shared;
                }
                let i = at.1 / 2 * half_width + at.0 / 2;
                let luma = f64::from(residual[(at.1 % 2 * 2 + at.0 % 2) * area + i]);
                let here = pixel(at.0, at.1);
                let is_one_per_block = sub == (1, 1);
                let [blue, red] = [1, 2].map(|c| {
                    let differs = if is_one_per_block { 0.0 } else { here[c] - means[i][c] };
                    f64::from(residual[(c + 3) * area + i]) - smoothing * differs
                });
                let add = if self.info.is_rgb() {
                    let (r, b) = (2.0 * (1.0 - kr) * red, 2.0 * (1.0 - kb) * blue);
                    [luma + r, luma - (kr * r + kb * b) / (1.0 - kr - kb), luma + b][which]
                } else {
                    [luma, blue, red][which]
                };
                let most = f64::from((1u32 << self.bits) - 1);
                (f64::from(code) + add * self.span(which).1).clamp(0.0, most)
            };
            codes.iter().enumerate().map(sample).collect()
        };
        (0..changed).map(component).collect()
    }
}

/// The frame as GStreamer unpacks it: 4:4:4, the codes in the upper bits of bytes or words.
fn unpacked(frame: &VideoFrame<Readable>) -> (VideoInfo, Vec<(usize, Vec<u16>)>) {
    let packed = frame.format_info();
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let info = VideoInfo::builder(packed.unpack_format(), frame.width(), frame.height())
        .colorimetry(&frame.info().colorimetry())
        .interlace_mode(frame.info().interlace_mode())
        .build()
        .unwrap();
    let format = info.format_info();
    let step = format.pixel_stride()[0] as usize;
    let mut components = vec![(width, vec![]); 4];
    let planes = frame.planes_data();
    let planes = &planes[..frame.n_planes() as usize];
    for y in 0..height {
        let mut row = vec![0; width * step];
        let flags = VideoPackFlags::TRUNCATE_RANGE;
        packed.unpack(flags, &mut row, planes, frame.plane_stride(), 0, y as i32, width as i32);
        for (component, (_, codes)) in components.iter_mut().enumerate() {
            let offset = format.poffset()[component] as usize;
            codes.extend(row.chunks(step).map(|pixel| match format.depth()[0] {
                8 => u16::from(pixel[offset]),
                _ => {
                    let bits = frame.info().comp_depth(0);
                    u16::from_le_bytes([pixel[offset], pixel[offset + 1]]) >> (16 - bits)
                }
            }));
        }
    }
    (info, components)
}

/// A buffer of noise. `Some(padding)` pads every row and moves every plane, as its meta says.
fn noise(info: &VideoInfo, padding: Option<i32>) -> gst::Buffer {
    let mut random = Random(u64::from(info.width()) * 1000 + u64::from(info.height()));
    let (mut offsets, mut size) = (vec![], 0);
    let strides: Vec<i32> =
        info.stride().iter().map(|stride| stride + padding.unwrap_or_default()).collect();
    for (plane, &stride) in strides.iter().enumerate() {
        size += padding.map_or(0, |_| 20 + 2 * plane);
        offsets.push(size);
        size += stride as usize * (info.height() as usize + 1);
    }
    let mut bytes = random.bytes(if padding.is_some() { size } else { info.size() });
    let (depth, shift) = (info.comp_depth(0), info.format_info().shift()[0]);
    if depth > 8 && !UNPACKED.contains(&info.format().to_str().as_str()) {
        for word in bytes.chunks_exact_mut(2) {
            // In the low bits, those above are 0; in the high bits, those below may be anything.
            let mask = if shift == 0 { u16::MAX >> (16 - depth) } else { u16::MAX };
            let word_of = u16::from_le_bytes([word[0], word[1]]) & mask;
            word.copy_from_slice(&word_of.to_le_bytes());
        }
    }
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    if padding.is_some() {
        let (flags, format) = (VideoFrameFlags::empty(), info.format());
        let (width, height) = (info.width(), info.height());
        let buffer = buffer.get_mut().unwrap();
        VideoMeta::add_full(buffer, flags, format, width, height, &offsets, &strides).unwrap();
    }
    buffer
}

/// Of the first parameters; others are 0.
const TUNING: [f64; 2] = [0.75, 0.25];

fn tuning_of(checkpoint: &Checkpoint) -> Vec<f64> {
    let mut values = TUNING.to_vec();
    values.resize(checkpoint.metadata.tuning.len(), 0.0);
    values
}

/// Share of smoothing of the model at [`TUNING`].
fn smoothing(checkpoint: &Checkpoint) -> f64 {
    let mut engine = engine::open(checkpoint, &Options::default()).unwrap();
    let tuning = checkpoint.metadata.tuning.tuning(&tuning_of(checkpoint)).unwrap();
    engine.set_tuning(&tuning).unwrap();
    engine.smoothing().into()
}

fn check(checkpoint: &Checkpoint, element: &gst::Element, info: &VideoInfo, weights: (f64, f64)) {
    let net = Net::new(checkpoint, &Device::Cpu).unwrap();
    let smoothing = smoothing(checkpoint);
    element.set_property("alpha", TUNING[0]);
    element.set_property("beta", TUNING[1]);
    let mut harness = Harness::with_element(element, Some("sink"), Some("src"));
    let caps = info.to_caps().unwrap();
    let name = caps.to_string();
    harness.set_caps(caps.clone(), caps);
    for padding in [None, Some(2), Some(62)] {
        let buffer = noise(info, padding);
        let input = Samples::read(info, buffer.clone());
        let output = Samples::read(info, harness.push_and_pull(stamped(buffer, 0)).unwrap());
        let what = format!("{name}, padding {padding:?}");
        for (input, output) in input.pictures().iter().zip(output.pictures()) {
            let want = input.filtered(&net, &tuning_of(checkpoint), smoothing, weights);
            for (component, (_, codes)) in output.components.iter().enumerate() {
                let what = format!("{what}, component {component}");
                let Some(want) = want.get(component) else {
                    assert_eq!(codes, &input.components[component].1, "{what}");
                    continue;
                };
                let differences = codes.iter().zip(want).map(|(&c, w)| (f64::from(c) - w).abs());
                let worst = differences.fold(0.0, f64::max);
                assert!(worst <= 1.0, "{what}: {worst}");
                let is_done = codes != &input.components[component].1;
                assert!(is_done || info.width() < 16, "{what}: nothing was done");
            }
        }
    }
}

/// sRGB has the primaries of BT.709.
const BT709: (f64, f64) = (0.2126, 0.0722);

#[test]
fn every_format_is_filtered_as_it_is_defined() {
    let model = Model::new();
    let formats = formats();
    assert!(formats.len() > 60 && formats.contains(&VideoFormat::V210), "{formats:?}");
    for format in formats {
        for (width, height) in SIZES {
            let info = VideoInfo::builder(format, width as u32, height as u32).fps((25, 1));
            check(&model.checkpoint, &model.element(), &info.build().unwrap(), BT709);
        }
    }
}

#[test]
fn fields_are_filtered_as_pictures_of_their_own() {
    let model = Model::new();
    for format in formats() {
        for (width, height) in [(16, 4), (33, 20)] {
            let info = VideoInfo::builder(format, width, height).fps((25, 1));
            let info = info.interlace_mode(VideoInterlaceMode::Interleaved).build().unwrap();
            check(&model.checkpoint, &model.element(), &info, BT709);
        }
    }
}

#[test]
fn chroma_that_the_net_does_not_see_is_smoothed_by_a_denoiser() {
    let checkpoint = Checkpoint::built_in().unwrap();
    assert!(smoothing(&checkpoint) > 0.5);
    for format in formats() {
        let info = VideoInfo::builder(format, 33, 17).fps((25, 1)).build().unwrap();
        let element = gst::ElementFactory::make("tunableconvfilter").build().unwrap();
        element.set_property_from_str("precision", "f32");
        check(&checkpoint, &element, &info, BT709);
    }
}

#[test]
fn the_colorimetry_tells_range_and_matrix() {
    let model = Model::new();
    common::init();
    let (bt601, bt2020) = ((0.299, 0.114), (0.2627, 0.0593));
    // Range, matrix, transfer, primaries.
    for (format, colorimetry, weights) in [
        (VideoFormat::Y444, "1:4:7:1", bt601),
        (VideoFormat::P01010le, "1:3:5:1", BT709),
        (VideoFormat::V210, "1:4:7:1", BT709),
        (VideoFormat::Gray8, "1:4:7:1", bt601),
        (VideoFormat::Gray8, "2:4:7:1", bt601),
        (VideoFormat::Rgbx, "2:1:7:1", BT709),
        (VideoFormat::Rgbx, "1:1:7:4", bt601),
        (VideoFormat::R210, "1:1:7:4", bt601),
        (VideoFormat::Gbr, "1:1:7:7", bt2020),
    ] {
        let info = VideoInfo::builder(format, 33, 17)
            .fps((25, 1))
            .colorimetry(&colorimetry.parse().unwrap())
            .build()
            .unwrap();
        check(&model.checkpoint, &model.element(), &info, weights);
    }
}
