//! What a new connection costs for its prints: the `ClientHello` and the beginning of HTTP/2, as a browser sends them.

use std::hint::black_box;
use std::time::Instant;

use portcullis::connection::client_hello::{self, ClientHello};
use portcullis::connection::http2::{Opening, Seen};

/// Connections of one batch.
const BATCH: usize = 256;

/// Prints what each step costs, the best of so many batches and the median.
pub(crate) fn times(batches: usize) {
    let hello = client_hello();
    let begins = http2();
    println!("| per new connection, ns | best of {batches} batches, median |");
    println!("|---|---|");
    let parsed = |step: fn(&ClientHello<'_>) -> u64| {
        let message = client_hello::message(black_box(&hello)).unwrap();
        black_box(step(black_box(&ClientHello::parse(&message).unwrap())));
    };
    row(&format!("parse a ClientHello of {} bytes", hello.len()), batches, || parsed(|_| 0));
    row("parse + core key", batches, || parsed(|hello| hello.core() ^ u64::from(hello.soft())));
    row("parse + JA4", batches, || parsed(|hello| u64::from(hello.ja4().is_some())));
    row("parse + core key + JA4", batches, || {
        black_box(client_hello::print(black_box(&hello)).unwrap());
    });
    row(&format!("print of HTTP/2 from {} bytes", begins.len()), batches, || {
        let seen = Opening::default().feed(black_box(&begins));
        assert!(matches!(black_box(seen), Seen::Print(print) if print.pseudo.is_some()));
    });
    println!();
}

fn row(what: &str, batches: usize, step: impl Fn()) {
    println!("| {what} | {} |", nanos(batches, step));
}

/// Nanoseconds of a step: those of the best batch, and of the median one.
pub(crate) fn nanos(batches: usize, step: impl Fn()) -> String {
    let mut nanos: Vec<f64> = (0..batches)
        .map(|_| {
            let begin = Instant::now();
            (0..BATCH).for_each(|_| step());
            begin.elapsed().as_nanos() as f64 / BATCH as f64
        })
        .collect();
    nanos.sort_by(f64::total_cmp);
    format!("{:.0}, {:.0}", nanos[0], nanos[batches / 2])
}

fn block(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

fn numbers(numbers: &[u16]) -> Vec<u8> {
    block(&numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>())
}

/// As Chromium 156 has it: what a field holds is made up, its length and all that is counted are not.
fn client_hello() -> Vec<u8> {
    let versions = [&[6_u8][..], &numbers(&[0x3a3a, 0x0304, 0x0303])[2..]].concat();
    let extensions: [(u16, Vec<u8>); 19] = [
        (0xdada, vec![]),
        (0xca34, block(&[0; 40])),
        (0x001b, vec![2, 0, 2]),
        (0x44cd, vec![0, 3, 2, b'h', b'2']),
        (0x0010, block(b"\x02h2\x08http/1.1")),
        (0x000a, numbers(&[0x2a2a, 0x11ec, 29, 23, 24])),
        (0x002d, vec![1, 1]),
        (0x0005, vec![1, 0, 0, 0, 0]),
        (0x0033, block(&[0; 1266])),
        (
            0x000d,
            numbers(&[0x5a5a, 0x0904, 0x0905, 0x0906, 0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601]),
        ),
        (0xfe0d, vec![0; 250]),
        (0xff01, vec![0]),
        (0x002b, versions),
        (0x0000, block(b"\0\0\x0cshop.example")),
        (0x0023, vec![]),
        (0x0017, vec![]),
        (0x000b, vec![1, 0]),
        (0x0012, vec![]),
        (0x4a4a, vec![0]),
    ];
    let extensions: Vec<u8> =
        extensions.iter().flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &block(data)].concat()).collect();
    let ciphers = numbers(&[
        0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d,
        0x002f, 0x0035,
    ]);
    let body = [&[3, 3][..], &[7; 32], &[32], &[8; 32], &ciphers, &[1, 0], &block(&extensions)].concat();
    let message = [&[1, 0][..], &block(&body)].concat();
    [&[22, 3, 1][..], &block(&message)].concat()
}

/// As Chromium 156 has it, with the head of a first visit behind its names.
fn http2() -> Vec<u8> {
    let mut octets = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x18\x04\0\0\0\0\0".to_vec();
    for (id, value) in [(1_u16, 65536_u32), (2, 0), (4, 6_291_456), (6, 262_144)] {
        octets.extend(id.to_be_bytes());
        octets.extend(value.to_be_bytes());
    }
    octets.extend(b"\0\0\x04\x08\0\0\0\0\0\0\xef\0\x01");
    let head = [&b"\x80\0\0\0\xff\x82\x41\x0cshop.example\x87\x84"[..], &[0xbf; 400]].concat();
    let length = u16::try_from(head.len()).unwrap().to_be_bytes();
    octets.extend([&[0][..], &length, &[1, 0x25, 0, 0, 0, 1], &head].concat());
    octets
}
