//! Recipes to begin with, as text with comments.

/// Name, and text.
pub const TEMPLATES: [(&str, &str); 6] = [
    ("restore", include_str!("../../templates/restore.toml")),
    ("lifelike", include_str!("../../templates/lifelike.toml")),
    ("style", include_str!("../../templates/style.toml")),
    ("upscale2x", include_str!("../../recipes/upscale2x.toml")),
    ("broadcast", include_str!("../../recipes/broadcast.toml")),
    ("broadcast-int8", include_str!("../../recipes/broadcast-int8.toml")),
];

/// The text of a template.
#[must_use]
pub fn template(name: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
