//! Writing several pieces at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use tokio::io::AsyncWrite;

/// So many octets are rather copied together than given to the system in pieces: most heads, with a short body.
const TOGETHER_MAX: usize = 1024;

/// Writes the pieces: a single one, or a few small ones in one copy, as a plain write, which costs the system less than a
/// list does.
pub(super) fn poll_write<W: AsyncWrite>(
    io: Pin<&mut W>,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut some = pieces.iter().filter(|piece| !piece.is_empty());
    match (some.next(), some.next()) {
        (Some(only), None) => io.poll_write(cx, only),
        (Some(_), Some(_)) if pieces.iter().map(|piece| piece.len()).sum::<usize>() <= TOGETHER_MAX => {
            let mut together = SmallVec::<[u8; TOGETHER_MAX]>::new();
            pieces.iter().for_each(|piece| together.extend_from_slice(piece));
            io.poll_write(cx, &together)
        }
        _ => io.poll_write_vectored(cx, pieces),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes how it was written to.
    #[derive(Default)]
    struct Sink(Vec<(&'static str, Vec<u8>)>);

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push(("whole", octets.to_vec()));
            Poll::Ready(Ok(octets.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            let length = all.len();
            self.0.push(("pieces", all));
            Poll::Ready(Ok(length))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn pieces_arrive_in_order_however_they_are_written() {
        let check = |pieces: &[&[u8]], how: &str| {
            let mut sink = Sink::default();
            let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            let all = pieces.concat();
            assert!(matches!(poll_write(Pin::new(&mut sink), cx, &slices), Poll::Ready(Ok(n)) if n == all.len()));
            assert_eq!(sink.0.len(), 1);
            assert_eq!((sink.0[0].0, &sink.0[0].1), (how, &all));
        };
        check(&[b"head"], "whole");
        check(&[b"", b"head", b""], "whole");
        check(&[b"head", b"body"], "whole");
        check(&[&[1; TOGETHER_MAX], b"body"], "pieces");
        check(&[&[1; 100_000]], "whole");
        check(&[], "pieces");
    }
}
