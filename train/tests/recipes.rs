//! The recipes that people copy: those shipped, and the example of the README.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use tunableconv_train::recipe::{LossKind, Recipe};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn shipped_recipes_are_valid_and_survive_being_written() {
    let mut count = 0;
    for entry in std::fs::read_dir(Path::new(ROOT).join("recipes")).unwrap() {
        let recipe = Recipe::read(&entry.unwrap().path()).unwrap();
        assert_eq!(Recipe::parse(&recipe.to_toml().unwrap()).unwrap(), recipe);
        count += 1;
    }
    assert!(count >= 2);
}

#[test]
fn the_example_of_the_readme_is_a_valid_part_of_a_recipe() {
    let readme = std::fs::read_to_string(Path::new(ROOT).join("../README.md")).unwrap();
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let shipped = std::fs::read_to_string(Path::new(ROOT).join("recipes/broadcast.toml")).unwrap();
    let simplex = shipped
        .replace("\"box\"", "\"simplex\"")
        .replace("\"denoise\"", "\"accurate\"")
        .replace("\"deblur\"", "\"lifelike\"");
    let recipe = Recipe::parse(&format!("{simplex}\n{example}")).unwrap();
    assert_eq!(recipe.objectives.len(), 3);
    assert_eq!(recipe.objectives[2].loss, LossKind::Adversarial {});
    assert!(recipe.needs_features() && !recipe.has_corner_targets());
    assert_eq!(Recipe::parse(&recipe.to_toml().unwrap()).unwrap(), recipe);
}
