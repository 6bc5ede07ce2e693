//! The console's files, embedded with the feature `console`.

/// Media type and content by path; `None` where the console was not built in.
#[cfg(not(feature = "console"))]
pub(crate) const FILES: Option<server::platform::Files> = None;

/// Media type and content by path.
#[cfg(feature = "console")]
pub(crate) const FILES: Option<server::platform::Files> = Some(built::file);

#[cfg(feature = "console")]
mod built {
    use rust_embed::Embed;

    #[derive(Embed)]
    #[folder = "../../console/dist"]
    struct Dist;

    pub(super) fn file(path: &str) -> Option<(String, Vec<u8>)> {
        let file = Dist::get(path)?;
        Some((file.metadata.mimetype().to_owned(), file.data.into_owned()))
    }
}
