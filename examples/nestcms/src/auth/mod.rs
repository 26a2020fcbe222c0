//! Login, tokens and the extractor of the signed-in user.
