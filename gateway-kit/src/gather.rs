//! Short writes in one piece.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// The most bytes that are copied to be written together.
const SHORT: usize = 1024;

/// Writes what `bufs` hold, like `poll_write_vectored`. A head and a short body are copied first:
/// that costs less than having the system gather them.
pub(crate) fn poll_write(
    stream: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    let total: usize = bufs.iter().map(|buf| buf.len()).sum();
    if total > SHORT {
        return stream.poll_write_vectored(cx, bufs);
    }
    let mut short = [0; SHORT];
    let mut rest = &mut short[..];
    for buf in bufs {
        // There is room for all of it.
        let _ = rest.write(buf)?;
    }
    stream.poll_write(cx, &short[..total])
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_all_of_it_in_order_short_or_long() {
        for lengths in [
            &[][..],
            &[0, 3, 0, 5],
            &[SHORT],
            &[SHORT, 1],
            &[1, 2 * SHORT],
        ] {
            let bytes = [b'a', b'b', b'c', b'd'];
            let pieces: Vec<Vec<u8>> = lengths
                .iter()
                .zip(bytes)
                .map(|(length, byte)| vec![byte; *length])
                .collect();
            let whole = pieces.concat();
            let bufs: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let (mut ours, mut theirs) = tokio::io::duplex(4 * SHORT);
            let written = poll_fn(|cx| poll_write(&mut ours, cx, &bufs))
                .await
                .unwrap();
            drop(ours);
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).await.unwrap();
            assert_eq!(read.len(), written);
            assert!(whole.starts_with(&read), "{lengths:?}");
            assert!(written == whole.len() || whole.len() > SHORT, "{lengths:?}");
        }
    }
}
