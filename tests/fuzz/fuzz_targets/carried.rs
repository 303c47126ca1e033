//! What a client carries of its session opens as it was sealed, and nothing else opens: not what was changed, cut, put in another
//! order or made up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::clock::Timestamp;
use portcullis::entropy::InsecureSeededEntropy;
use portcullis::secret::{KeyId, Keyring, MasterKey};
use portcullis::session::carried::{CARRIED_BYTES_MAX, Carried, Epochs, KeySet, Origin};
use portcullis::session::id::SessionId;
use portcullis::session::record::Record;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fuzz_target!(|input: (u16, &[u8])| {
    let (at, bytes) = input;
    let keys = Keyring::new(&MasterKey::new(KeyId(1), [7; 32]), &[]);
    let id = SessionId::from_bytes([3; 32]);
    assert!(Carried::open(&keys, &id, bytes.split(|byte| *byte == b';'), NOW).is_err());

    let Ok(record) = Record::decode(bytes) else { return };
    let epochs = Epochs { of_subject: at.into(), of_all: 0 };
    let origin = Origin { epochs, keys: KeySet::default().with(KeyId(1)) };
    let carried = Carried { sealed_at: NOW, origin, record: Record { digest: id.digest(), ..record } };
    let values = carried.seal(&keys, &InsecureSeededEntropy::new(at.into()), &id).unwrap();
    if carried.record.encode().len() > CARRIED_BYTES_MAX {
        assert!(values.is_empty());
        return;
    }
    let open = |values: &[Vec<u8>]| Carried::open(&keys, &id, values.iter().map(Vec::as_slice), NOW);
    let values: Vec<Vec<u8>> = values.into_iter().map(String::into_bytes).collect();
    assert_eq!(open(&values).unwrap(), (carried, KeyId(1)));

    let mut changed = values.clone();
    let part = usize::from(at) % changed.len();
    let place = usize::from(at) % changed[part].len();
    changed[part][place] = if changed[part][place] == b'A' { b'B' } else { b'A' };
    assert!(open(&changed).is_err());
    let mut cut = values.clone();
    cut[part].truncate(place);
    assert!(open(&cut).is_err());
    let mut turned = values;
    turned.reverse();
    assert!(turned.len() == 1 || open(&turned).is_err());
});
