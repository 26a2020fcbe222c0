//! PayTabs over HTTP.
