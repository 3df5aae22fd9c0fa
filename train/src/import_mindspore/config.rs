//! What the authors' code is told of a net.

use std::path::Path;

use anyhow::ensure;
use serde::Deserialize;
use tunableconv::checkpoint::Architecture;
use tunableconv::nn::{
    EdsrConfig, Mode, NafNetConfig, NetConfig as _, PhiConfig, StyleNetConfig, SwinIrConfig,
};
use tunableconv::tuning::{Domain, Parameter, TuningSpace};

use super::Choices;

/// A net as the authors' code is told it; what is left out is what that code takes then.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "arch", rename_all = "lowercase", deny_unknown_fields)]
pub enum Config {
    /// Their EDSR.
    Edsr {
        /// Residual blocks.
        #[serde(default = "number::<16>")]
        num_blocks: usize,
        /// Channels between the first and the last layer.
        #[serde(default = "number::<64>")]
        num_channels: usize,
        /// Output size over input size.
        #[serde(default = "number::<4>")]
        scale: usize,
        /// Tuning parameters.
        #[serde(default = "number::<1>")]
        num_params: usize,
        /// How the tuning becomes mixing coefficients: linear or mlp.
        #[serde(default = "mlp")]
        mode: Mode,
    },
    /// Their NAFNet.
    Nafnet {
        /// Channels at full size.
        #[serde(default = "number::<32>")]
        width: usize,
        /// Blocks at the smallest size.
        #[serde(default = "number::<12>")]
        middle_blk_num: usize,
        /// Blocks on the way down.
        #[serde(default = "nafnet_down")]
        enc_blk_nums: Vec<usize>,
        /// Blocks on the way up.
        #[serde(default = "nafnet_up")]
        dec_blk_nums: Vec<usize>,
        /// Tuning parameters.
        #[serde(default = "number::<1>")]
        num_params: usize,
        /// How the tuning becomes mixing coefficients: linear or mlp.
        #[serde(default = "mlp")]
        mode: Mode,
    },
    /// Their style net.
    Stylenet {
        /// Channels at full size.
        #[serde(default = "number::<64>")]
        num_channels: usize,
        /// How often width and height are halved.
        #[serde(default = "number::<2>")]
        num_scales: usize,
        /// Layers on the way down, residual blocks, layers on the way up.
        #[serde(default = "style_blocks")]
        num_blocks: [usize; 3],
        /// Tuning parameters.
        #[serde(default = "number::<1>")]
        num_params: usize,
        /// How the tuning becomes mixing coefficients: linear or mlp.
        #[serde(default = "mlp")]
        mode: Mode,
    },
    /// Their SwinIR.
    Swinir {
        /// Channels of a pixel's embedding.
        #[serde(default = "number::<96>")]
        embed_dim: usize,
        /// Blocks of each residual group.
        #[serde(default = "swin_groups")]
        depths: Vec<usize>,
        /// Attention heads of each residual group.
        #[serde(default = "swin_groups")]
        num_heads: Vec<usize>,
        /// Width and height of windows.
        #[serde(default = "number::<7>")]
        window_size: usize,
        /// Channels inside a block's dense layers, over those outside.
        #[serde(default = "swin_ratio")]
        mlp_ratio: f64,
        /// Output size over input size.
        #[serde(default = "number::<1>")]
        upscale: usize,
        /// How it enlarges.
        #[serde(default)]
        upsampler: Upsampler,
        /// What is before a residual connection.
        #[serde(default)]
        resi_connection: ResidualConnection,
        /// Tuning parameters.
        #[serde(default = "number::<1>")]
        num_params: usize,
        /// How the tuning becomes mixing coefficients: linear or mlp.
        #[serde(default = "mlp")]
        mode: Mode,
    },
}

/// How SwinIR enlarges; the authors' checkpoints are of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Upsampler {
    /// Not at all.
    #[default]
    #[serde(rename = "")]
    None,
    /// By convolutions and pixel shuffles.
    #[serde(rename = "pixelshuffle")]
    PixelShuffle,
}

/// What SwinIR has before a residual connection; the authors' checkpoints are of this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ResidualConnection {
    /// One convolution.
    #[default]
    #[serde(rename = "1conv")]
    OneConv,
}

fn number<const N: usize>() -> usize {
    N
}

fn mlp() -> Mode {
    Mode::Mlp
}

fn nafnet_down() -> Vec<usize> {
    vec![2, 2, 4, 8]
}

fn nafnet_up() -> Vec<usize> {
    vec![2; 4]
}

fn style_blocks() -> [usize; 3] {
    [2, 6, 2]
}

fn swin_groups() -> Vec<usize> {
    vec![6; 4]
}

fn swin_ratio() -> f64 {
    4.0
}

impl Config {
    /// # Errors
    /// The file cannot be read, or is no such configuration; it is named.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let read = || Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?);
        read().map_err(|error: anyhow::Error| error.context(path.display().to_string()))
    }

    /// # Errors
    /// Sizes that no real net has, or that contradict each other.
    pub(super) fn architecture(&self) -> anyhow::Result<Architecture> {
        let phi = |mode: &Mode| PhiConfig { mode: *mode, expand: 1 };
        let architecture = match self {
            Self::Edsr { num_blocks, num_channels, scale, mode, .. } => {
                Architecture::Edsr(EdsrConfig {
                    channels: *num_channels,
                    blocks: *num_blocks,
                    scale: *scale,
                    phi: phi(mode),
                    ..Default::default()
                })
            }
            Self::Nafnet { width, middle_blk_num, enc_blk_nums, dec_blk_nums, mode, .. } => {
                Architecture::Nafnet(NafNetConfig {
                    channels: *width,
                    encoder_blocks: enc_blk_nums.clone(),
                    middle_blocks: *middle_blk_num,
                    decoder_blocks: dec_blk_nums.clone(),
                    phi: phi(mode),
                })
            }
            Self::Stylenet { num_channels, num_scales, num_blocks, mode, .. } => {
                let [encoder_layers, blocks, decoder_layers] = *num_blocks;
                Architecture::Stylenet(StyleNetConfig {
                    channels: *num_channels,
                    scales: *num_scales,
                    encoder_layers,
                    blocks,
                    decoder_layers,
                    phi: phi(mode),
                })
            }
            Self::Swinir {
                embed_dim,
                depths,
                num_heads,
                window_size,
                mlp_ratio,
                upscale,
                upsampler,
                mode,
                ..
            } => {
                ensure!(
                    (*upscale == 1) == (*upsampler == Upsampler::None),
                    "upscale = {upscale} with {}, expected 1 without an upsampler, 2 to 4 with pixelshuffle",
                    match upsampler {
                        Upsampler::None => "no upsampler",
                        Upsampler::PixelShuffle => "pixelshuffle",
                    }
                );
                Architecture::Swinir(SwinIrConfig {
                    channels: *embed_dim,
                    depths: depths.clone(),
                    heads: num_heads.clone(),
                    window: *window_size,
                    mlp_ratio: *mlp_ratio,
                    scale: *upscale,
                    phi: phi(mode),
                })
            }
        };
        architecture.validate()?;
        Ok(architecture)
    }

    /// Constants of the authors' nets, which ours have elsewhere.
    pub(super) fn constants(&self) -> Vec<(&'static str, Vec<f32>)> {
        match self {
            Self::Edsr { .. } => {
                let mean = EdsrConfig::default().io().mean.unwrap_or_default();
                let unit = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
                vec![
                    ("sub_mean.weight", unit.clone()),
                    ("sub_mean.bias", mean.map(|mean| -mean).to_vec()),
                    ("add_mean.weight", unit),
                    ("add_mean.bias", mean.to_vec()),
                ]
            }
            Self::Stylenet { .. } => vec![
                ("img_mean", StyleNetConfig::MEAN.to_vec()),
                ("img_std", StyleNetConfig::DEVIATION.to_vec()),
            ],
            Self::Nafnet { .. } | Self::Swinir { .. } => vec![],
        }
    }

    /// Ends of the names of tensors that the authors' nets hold and do not use, or that follow from the
    /// configuration.
    pub(super) fn unused(&self) -> &'static [&'static str] {
        match self {
            Self::Stylenet { .. } => &[".moving_mean", ".moving_variance"],
            Self::Swinir { .. } => &[".relative_position_index"],
            Self::Edsr { .. } | Self::Nafnet { .. } => &[],
        }
    }

    fn parameters(&self) -> usize {
        match self {
            Self::Edsr { num_params, .. }
            | Self::Nafnet { num_params, .. }
            | Self::Stylenet { num_params, .. }
            | Self::Swinir { num_params, .. } => *num_params,
        }
    }

    /// In what the authors trained it on: two degradations that come together, or a trade-off.
    fn domain(&self) -> Domain {
        let degradations = matches!(self, Self::Edsr { scale: 1, .. });
        if degradations || self.parameters() == 1 { Domain::Box } else { Domain::Simplex }
    }

    pub(super) fn tuning(&self, choices: &Choices) -> anyhow::Result<TuningSpace> {
        let (p, names) = (self.parameters(), &choices.names);
        ensure!(p > 0, "0 tuning parameters, expected at least 1");
        ensure!(
            names.is_empty() || names.len() == p,
            "{} names for {p} parameters: {}",
            names.len(),
            names.join(", ")
        );
        let parameter = |j: usize| {
            let name = names.get(j).cloned().unwrap_or_else(|| format!("knob-{}", j + 1));
            Parameter {
                nick: name.clone(),
                name,
                blurb: format!("Entry {} of the tuning, of {p}", j + 1),
                minimum: 0.0,
                maximum: 1.0,
                default: if j == 0 { 1.0 } else { 0.0 },
                objective: "what its authors trained it for".into(),
            }
        };
        let domain = choices.domain.unwrap_or_else(|| self.domain());
        let space = TuningSpace { domain, parameters: (0..p).map(parameter).collect() };
        space.validate()?;
        Ok(space)
    }
}
