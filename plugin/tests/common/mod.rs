//! Small checkpoints, pictures in every pixel format, and the answers of the core engine.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "test helpers")]

pub mod play;
pub mod source;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use gst::prelude::*;
use gst_check::Harness;
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoFrame, VideoInfo};
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_video as gst_video;
use tempfile::TempDir;
use tunableconv::checkpoint::{Architecture, Checkpoint, Metadata, Provenance};
use tunableconv::engine::{self, Options, Precision};
use tunableconv::frame::{ChromaSite, FrameFormat, Matrix, Range, Rescale, SampleFormat};
use tunableconv::nn::{Mode, PhiConfig, VideoNetConfig};
use tunableconv::picture::Picture as CorePicture;
use tunableconv::tuning::{Domain, Parameter, TuningSpace};

pub const FORMATS: [VideoFormat; 4] =
    [VideoFormat::I420, VideoFormat::Yv12, VideoFormat::Nv12, VideoFormat::Nv21];

/// File name of the plugin.
pub const LIBRARY: &str = "libgsttunableconv.so";

pub const FRAME_DURATION: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// GStreamer with the element under test.
pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gsttunableconv::plugin_register_static().unwrap();
    });
}

/// What is not installed of the elements a test needs.
pub fn missing(model: &Model, elements: &[&str]) -> Option<String> {
    elements.iter().find_map(|element| {
        let status = model.command("gst-inspect-1.0").args(["--exists", element]).status();
        match status {
            Ok(status) if status.success() => None,
            Ok(_) => Some(format!("no element {element}")),
            Err(error) => Some(format!("gst-inspect-1.0: {error}")),
        }
    })
}

/// The shared library that belongs to this test.
pub fn library() -> PathBuf {
    // `cargo test` leaves it beside the tests; a copy further up may be stale.
    let library = std::env::current_exe().unwrap().with_file_name(LIBRARY);
    assert!(library.exists(), "no {}", library.display());
    library
}

/// A script of `pipelines/`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines").join(name)
}

/// A small linear congruential generator: reproducible numbers in −1 to 1.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (127.5 * (self.next() + 1.0)) as u8).collect()
    }
}

fn parameter(name: &str, default: f64) -> Parameter {
    Parameter {
        name: name.into(),
        nick: name.into(),
        blurb: format!("How much to {name}"),
        minimum: 0.0,
        maximum: 1.0,
        default,
        objective: String::new(),
    }
}

/// A checkpoint with the parameters `denoise` and `deblur` and random weights.
pub fn random_checkpoint(domain: Domain) -> Checkpoint {
    let config = VideoNetConfig {
        channels: 8,
        layers: 1,
        negative_slope: 0.1,
        phi: PhiConfig { mode: Mode::Mlp, expand: 2 },
    };
    random_checkpoint_of(Architecture::Video(config), domain)
}

/// The same for any net.
pub fn random_checkpoint_of(architecture: Architecture, domain: Domain) -> Checkpoint {
    let parameters = vec![parameter("denoise", 1.0), parameter("deblur", 0.0)];
    let metadata = Metadata {
        architecture,
        tuning: TuningSpace { domain, parameters },
        provenance: Provenance::default(),
        calibration: None,
    };
    let mut random = Random(7);
    let mut values = |len: usize| (0..len).map(|_| 0.2 * random.next()).collect();
    let tensors = metadata
        .tensors()
        .iter()
        .map(|spec| (spec.name.clone(), values(spec.shape.iter().product())))
        .collect();
    Checkpoint { metadata, tensors }
}

/// A folder with a checkpoint in it.
pub struct Model {
    pub folder: TempDir,
    pub path: PathBuf,
    pub checkpoint: Checkpoint,
}

impl Model {
    pub fn new() -> Self {
        Self::with_domain(Domain::Box)
    }

    pub fn with_domain(domain: Domain) -> Self {
        Self::of(random_checkpoint(domain))
    }

    pub fn of(checkpoint: Checkpoint) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        checkpoint.write(&path).unwrap();
        Self { folder, path, checkpoint }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// The element on this model in f32, not started.
    pub fn element(&self) -> gst::Element {
        init();
        gst::ElementFactory::make("tunableconvfilter")
            .property("model", self.path())
            .property_from_str("device", "cpu")
            .property_from_str("precision", "f32")
            .build()
            .unwrap()
    }

    /// A program that sees the shared library that belongs to this test, through a registry of its
    /// own, and that ends with 124 when it hangs.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let folder = self.folder.path().join("plugin");
        if !folder.exists() {
            fs::create_dir(&folder).unwrap();
            symlink(library(), folder.join(LIBRARY)).unwrap();
        }
        let mut command = Command::new("timeout");
        command
            .arg("300")
            .arg(program.as_ref())
            .env("GST_PLUGIN_PATH", folder)
            .env("GST_REGISTRY", self.folder.path().join("registry.bin"));
        command
    }

    /// A Python that has this module of GStreamer's; says so where there is none.
    pub fn python(&self, module: &str) -> Option<&'static str> {
        let imports = format!(
            "import gi; gi.require_version('{module}', '1.0'); from gi.repository import {module}"
        );
        let has_module = |python: &&str| {
            let output = self.command(python).args(["-c", &imports]).output();
            output.is_ok_and(|output| output.status.success())
        };
        // The first python3 in the path may be one without the system's packages.
        let python = ["python3", "/usr/bin/python3"].into_iter().find(has_module);
        if python.is_none() {
            println!("skipped: no python3 with gi and {module}");
        }
        python
    }

    /// The element between pads with these caps, playing.
    pub fn harness(&self, element: &gst::Element, info: &VideoInfo) -> Harness {
        let mut harness = Harness::with_element(element, Some("sink"), Some("src"));
        let caps = info.to_caps().unwrap();
        harness.set_caps(caps.clone(), caps);
        harness
    }

    /// Checks that the element makes of frames of every order and these sizes what the engine does.
    pub fn gives_what_its_engine_gives(&self, sizes: &[(usize, usize)]) {
        for &(width, height) in sizes {
            let picture = Picture::random(width, height);
            let expected = self.filter(&picture, &[0.75, 0.25]);
            assert_ne!(picture, expected, "the test's net does nothing");
            for format in FORMATS {
                let info = picture.info(format);
                let element = self.element();
                element.set_property("alpha", 0.75);
                element.set_property("beta", 0.25);
                let mut harness = self.harness(&element, &info);
                let plain = harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
                assert_eq!(picture.read(&info, plain), expected, "{format:?}");
                let padded = stamped(picture.padded_buffer(&info), 1);
                let padded = harness.push_and_pull(padded).unwrap();
                assert_eq!(picture.read(&info, padded), expected, "{format:?} padded");
            }
        }
    }

    /// What the core engine makes of a picture.
    pub fn filter(&self, picture: &Picture, tuning: &[f64]) -> Picture {
        filter(&self.checkpoint, picture, tuning)
    }
}

/// What the core engine makes of a picture in f32.
pub fn filter(checkpoint: &Checkpoint, picture: &Picture, tuning: &[f64]) -> Picture {
    let mut engine =
        engine::open(checkpoint, &Options { precision: Precision::F32, ..Options::default() })
            .unwrap();
    let space = &checkpoint.metadata.tuning;
    // A net may have fewer parameters.
    let tuning = space.tuning(&tuning[..tuning.len().min(space.len())]).unwrap();
    engine.set_tuning(&tuning).unwrap();
    let input = CorePicture::new(picture.format, picture.planes.clone()).unwrap();
    let mut output = input.clone();
    let mut filtered = output.frame_mut().with_chroma_site(SMALL);
    engine.process(&input.frame().with_chroma_site(SMALL), &mut filtered).unwrap();
    Picture { format: picture.format, planes: output.planes().map(<[u8]>::to_vec) }
}

/// Where GStreamer has the chroma of pictures of at most 576 lines whose caps do not say it.
pub const SMALL: ChromaSite = ChromaSite::CENTRE;

/// Planes Y, U and V without padding.
#[derive(Clone, PartialEq)]
pub struct Picture {
    pub format: FrameFormat,
    pub planes: [Vec<u8>; 3],
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let starts = self.planes.each_ref().map(|plane| &plane[..plane.len().min(8)]);
        write!(f, "{:?} {starts:?}", self.format)
    }
}

impl Picture {
    /// The picture so many times as large, of the matrix that small ones have.
    pub fn bicubic(&self, scale: usize) -> Self {
        let FrameFormat { width, height, .. } = self.format;
        let format = FrameFormat { width: scale * width, height: scale * height, ..self.format };
        let input = CorePicture::new(self.format, self.planes.clone()).unwrap();
        let mut output = CorePicture::grey(format).unwrap();
        let frame = input.frame().with_chroma_site(SMALL);
        let mut larger = output.frame_mut().with_matrix(Matrix::Bt601).with_chroma_site(SMALL);
        Rescale::new([width, height], [format.width, format.height])
            .run(&frame, &mut larger)
            .unwrap();
        Self { format, planes: output.planes().map(<[u8]>::to_vec) }
    }

    pub fn random(width: usize, height: usize) -> Self {
        let format =
            FrameFormat { width, height, range: Range::Limited, samples: SampleFormat::U8 };
        let (half_width, half_height) = format.half_size();
        let mut random = Random(width as u64 * 10_000 + height as u64);
        let chroma = half_width * half_height;
        let planes = [width * height, chroma, chroma].map(|len| random.bytes(len));
        Self { format, planes }
    }

    fn widths(&self) -> [usize; 3] {
        let half = self.format.half_size().0;
        [self.format.width, half, half]
    }

    /// Caps of this picture in a pixel format.
    pub fn info(&self, format: VideoFormat) -> VideoInfo {
        init();
        VideoInfo::builder(format, self.format.width as u32, self.format.height as u32)
            .fps((25, 1))
            .build()
            .unwrap()
    }

    /// A buffer with this picture, rows without extra padding.
    pub fn buffer(&self, info: &VideoInfo) -> gst::Buffer {
        self.fill(info, gst::Buffer::with_size(info.size()).unwrap())
    }

    /// A buffer with this picture, every row padded and every plane moved, as its `GstVideoMeta`
    /// says.
    pub fn padded_buffer(&self, info: &VideoInfo) -> gst::Buffer {
        let strides: Vec<i32> = info.stride().iter().map(|stride| stride + 48).collect();
        let mut offsets = Vec::new();
        let mut size = 64;
        for stride in &strides {
            offsets.push(size);
            // Chroma planes are lower than this.
            size += *stride as usize * (info.height() as usize + 1) + 16;
        }
        let mut buffer = gst::Buffer::with_size(size).unwrap();
        gst_video::VideoMeta::add_full(
            buffer.get_mut().unwrap(),
            gst_video::VideoFrameFlags::empty(),
            info.format(),
            info.width(),
            info.height(),
            &offsets,
            &strides,
        )
        .unwrap();
        self.fill(info, buffer)
    }

    pub fn fill(&self, info: &VideoInfo, mut buffer: gst::Buffer) -> gst::Buffer {
        let writable = buffer.get_mut().unwrap();
        writable.memset(.., 0xEE).unwrap();
        let mut frame = VideoFrame::from_buffer_writable(buffer, info).unwrap();
        for (component, (plane, width)) in self.planes.iter().zip(self.widths()).enumerate() {
            let component = component as u32;
            let (stride, step) =
                (frame.comp_stride(component) as usize, frame.comp_pstride(component) as usize);
            let data = frame.comp_data_mut(component).unwrap();
            for (row, line) in plane.chunks(width).enumerate() {
                for (x, value) in line.iter().enumerate() {
                    data[row * stride + x * step] = *value;
                }
            }
        }
        frame.into_buffer()
    }

    /// The picture in a buffer.
    pub fn read(&self, info: &VideoInfo, buffer: gst::Buffer) -> Self {
        let frame = VideoFrame::from_buffer_readable(buffer, info).unwrap();
        let mut picture = self.clone();
        for (component, width) in self.widths().into_iter().enumerate() {
            let plane = &mut picture.planes[component];
            let component = component as u32;
            let (stride, step) =
                (frame.comp_stride(component) as usize, frame.comp_pstride(component) as usize);
            let data = frame.comp_data(component).unwrap();
            for (row, line) in plane.chunks_mut(width).enumerate() {
                for (x, value) in line.iter_mut().enumerate() {
                    *value = data[row * stride + x * step];
                }
            }
        }
        picture
    }

    /// Mean absolute difference of luma, in code values.
    pub fn luma_difference(&self, other: &Self) -> f64 {
        let pairs = self.planes[0].iter().zip(&other.planes[0]);
        let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        sum as f64 / self.planes[0].len() as f64
    }
}

/// The buffer as frame number `index`.
pub fn stamped(mut buffer: gst::Buffer, index: u64) -> gst::Buffer {
    let writable = buffer.get_mut().unwrap();
    writable.set_pts(FRAME_DURATION * index);
    writable.set_duration(FRAME_DURATION);
    buffer
}

/// All messages of these types on the bus.
pub fn messages(bus: &gst::Bus, types: &[gst::MessageType]) -> Vec<gst::Message> {
    std::iter::from_fn(|| bus.pop_filtered(types)).collect()
}

/// The text of the first error on the bus, with the element it came from.
pub fn first_error(bus: &gst::Bus) -> (String, String) {
    let message = bus.pop_filtered(&[gst::MessageType::Error]).expect("an error on the bus");
    let gst::MessageView::Error(error) = message.view() else { unreachable!() };
    (error.src().unwrap().name().into(), error.error().to_string())
}
