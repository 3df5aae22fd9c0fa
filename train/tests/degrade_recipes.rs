//! Degradations as recipes spell them: ranges and names.

use tunableconv_train::degrade::{
    Blur, Camera, ChromaNoise, Degradation, Downscale, Filter, Jpeg, MotionBlur, Noise,
    PoissonGaussian, check_chain,
};

fn chain() -> Vec<Degradation> {
    vec![
        Degradation::Blur(Blur { sigma: [0.5, 2.5] }),
        Degradation::Noise(Noise { sigma: [5.0, 50.0] }),
    ]
}

#[test]
fn ranges_are_checked() {
    assert!(chain().iter().all(|d| d.check().is_ok()));
    for sigma in [[-1.0, 2.0], [3.0, 2.0], [0.0, f32::INFINITY], [f32::NAN, 1.0]] {
        assert!(Degradation::Blur(Blur { sigma }).check().is_err(), "{sigma:?}");
    }
    let fine = [0.5, 0.6];
    for (kind, named) in [
        (
            Degradation::PoissonGaussian(PoissonGaussian { gain: [0.0, 1.1], sigma: fine }),
            "gain = [0, 1.1]",
        ),
        (
            Degradation::PoissonGaussian(PoissonGaussian { gain: fine, sigma: [-1.0, 3.0] }),
            "sigma = [-1, 3]",
        ),
        (
            Degradation::ChromaNoise(ChromaNoise { sigma: [9.0, 1.0], radius: fine }),
            "sigma = [9, 1]",
        ),
        (Degradation::ChromaNoise(ChromaNoise { sigma: fine, radius: [0.0, 5.0] }), "<= 4"),
        (
            Degradation::Camera(Camera {
                gain: [0.0, 1.0],
                sigma: fine,
                smoothing: [0.0; 2],
                sharpening: [0.0, 3.0],
            }),
            "sharpening = [0, 3]",
        ),
        (Degradation::MotionBlur(MotionBlur { length: [0.0, 65.0] }), "<= 64"),
        (
            Degradation::Downscale(Downscale { factor: [0.5, 2.0], filter: Filter::Area }),
            "1 <= least",
        ),
        (Degradation::Downscale(Downscale { factor: [1.0, 4.5], filter: Filter::Area }), "<= 4"),
        (Degradation::Jpeg(Jpeg { quality: [0, 50] }), "quality = [0, 50]"),
        (Degradation::Jpeg(Jpeg { quality: [50, 101] }), "<= 100"),
    ] {
        let error = format!("{:#}", kind.check().unwrap_err());
        assert!(error.contains(named), "{error}");
    }
    let recorded = Degradation::RECORDED;
    assert!(check_chain(&[recorded.clone(), chain()[0].clone()]).is_ok());
    let error = check_chain(&[chain()[0].clone(), recorded]).unwrap_err();
    assert!(error.to_string().contains("first"), "{error}");
}

#[test]
fn recipes_name_the_kind() {
    #[derive(serde::Deserialize, serde::Serialize, PartialEq, Debug)]
    struct Recipe {
        degradation: Vec<Degradation>,
    }
    let text = "[[degradation]]\nkind = \"blur\"\nsigma = [0.5, 2.5]\n\n\
                [[degradation]]\nkind = \"noise\"\nsigma = [5.0, 50.0]\n";
    let recipe: Recipe = toml::from_str(text).unwrap();
    assert_eq!(recipe.degradation, chain());
    let again: Recipe = toml::from_str(&toml::to_string(&recipe).unwrap()).unwrap();
    assert_eq!(again, recipe);
    let misspelt = text.replace("sigma = [5", "sigmas = [5");
    assert!(toml::from_str::<Recipe>(&misspelt).is_err());
}

#[test]
fn every_kind_has_a_name_and_refuses_unknown_keys() {
    #[derive(serde::Deserialize, PartialEq, Debug)]
    struct Link {
        degradation: Degradation,
    }
    for (text, kind) in [
        (
            "kind = 'poisson-gaussian', gain = [0, 0.02], sigma = [1, 5]",
            Degradation::PoissonGaussian(PoissonGaussian { gain: [0.0, 0.02], sigma: [1.0, 5.0] }),
        ),
        (
            "kind = 'chroma-noise', sigma = [0, 9]",
            Degradation::ChromaNoise(ChromaNoise { sigma: [0.0, 9.0], radius: [0.0, 0.0] }),
        ),
        (
            "kind = 'motion-blur', length = [0, 12]",
            Degradation::MotionBlur(MotionBlur { length: [0.0, 12.0] }),
        ),
        (
            "kind = 'downscale', factor = [1, 2.5], filter = 'bicubic'",
            Degradation::Downscale(Downscale { factor: [1.0, 2.5], filter: Filter::Bicubic }),
        ),
        ("kind = 'jpeg', quality = [10, 95]", Degradation::Jpeg(Jpeg { quality: [10, 95] })),
        ("kind = 'recorded'", Degradation::RECORDED),
    ] {
        let parse = |text: &str| toml::from_str::<Link>(&format!("degradation = {{ {text} }}"));
        assert_eq!(parse(text).unwrap().degradation, kind);
        assert!(kind.check().is_ok(), "{text}");
        assert!(parse(&format!("{text}, strength = 3")).is_err(), "{text}");
    }
}
