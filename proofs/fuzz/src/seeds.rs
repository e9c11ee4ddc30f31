//! Honest inputs, from which fuzzing starts deep. They are part of the corpus.

use super::{
    blobs::Honest,
    input::noise,
    kzg::BOUND,
    logs::{ENTRIES, LOG},
};
use meridian_proofs::{
    B256, certificate::Certificate, checkpoint::CosignedCheckpoint, kzg::Opening, shape::RowRange,
};

/// Target, name and bytes of every honest input.
pub fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut add = |target, name: String, parts: &[&[u8]]| {
        seeds.push((target, format!("honest-{name}"), parts.concat()));
    };
    for (choice, honest) in Honest::all() {
        let (blob, shape) = (&honest.blob, honest.blob.shape());
        let all = shape.all();
        let length = blob.header().length.get();
        add("header", format!("{length}"), &[&blob.header().encode()]);
        add("rlc", format!("{length}"), &[&[choice], &blob.rlc().to_bytes()]);
        let k = u16::try_from(shape.data_rows()).unwrap();
        for index in [0, k - 1, k, 4 * k - 1] {
            let range = RowRange::of_row(shape.index(index.into()).unwrap());
            let proof = hashes(&blob.range_proof(range).0);
            add(
                "row",
                format!("{length}-{index}"),
                &[&[choice], &index.to_be_bytes(), &blob.rows(range), &proof],
            );
        }
        // The widest shape's long ranges would be most of the corpus.
        let ranges = if k == 16 { vec![(0, 16), (15, 3), (5, 1), (63, 1)] } else { vec![(63, 2)] };
        for (start, count) in ranges {
            let range = honest.range(start, count).unwrap();
            let proof = hashes(&blob.range_proof(range).0);
            let places = [start.to_be_bytes(), count.to_be_bytes()].concat();
            add(
                "range",
                format!("{length}-{start}-{count}"),
                &[&[choice], &places, &blob.rows(range), &proof],
            );
        }
        let whole = [&[choice, 0, 0, 0][..], &[u8::try_from(all.count().min(255)).unwrap()]].concat();
        let parity = [&[choice, 3][..], &k.to_be_bytes(), &[k.to_be_bytes()[1]]].concat();
        let pieces: Vec<u8> =
            (0..k).flat_map(|piece| [&(4 * piece + piece % 4).to_be_bytes()[..], &[1]].concat()).collect();
        add("reconstruct", format!("{length}-whole"), &[&whole]);
        add("reconstruct", format!("{length}-parity"), &[&parity]);
        add("reconstruct", format!("{length}-pieces"), &[&[choice, 0], &pieces]);
    }
    add("forged", "nothing".into(), &[]);
    add("forged", "data-row".into(), &[&[3, 0, 0, 1]]);
    add("forged", "parity-row".into(), &[&[63, 127, 0, 0x80]]);
    add("forged", "padding".into(), &[&[15, 0, 1, 1, 2]]);
    // Every K, with rows of one block and of several.
    for log in 0..12 {
        let byte = if log < 9 { log } else { 244 + log };
        let k = 1_u16 << log;
        let zeros = vec![0; 40 * usize::from(log)];
        for (blocks, offset, start, choice) in
            [(0, 0, k, 0), (2, 1, 3 * k, 5), (255, 32, k / 2, 66), (1, 7, 0, 203)]
        {
            add(
                "codec",
                format!("{log}-{blocks}"),
                &[&[byte, blocks, offset], &start.to_be_bytes(), &[choice], &zeros],
            );
        }
    }
    for (rows, blocks, offset) in [(192, 0, 0), (192, 3, 1), (196, 4, 1), (200, 23, 2), (251, 60, 3)] {
        add("codec", format!("odd-{rows}-{blocks}"), &[&[rows, blocks, offset, 0, 1, 0]]);
    }
    let pieces: Vec<u8> = (1..=4)
        .flat_map(|piece| [&[60 * piece][..], &noise(piece.into(), 60 * usize::from(piece))].concat())
        .collect();
    for (length, start, times) in
        [(600_u64, 16_u16, 0_u16), (599, 0, 0), (601, 63, 0), (1200, 40, 1), (16_385, 250, 99), (1, 5, 0)]
    {
        let numbers =
            [&length.to_be_bytes()[..], &[0; 32], &start.to_be_bytes(), &times.to_be_bytes()].concat();
        add("encode", format!("{length}"), &[&numbers, &pieces]);
    }
    let commitment = BOUND.binding.commitments()[0];
    for (start, end) in [(0_u16, 100_u16), (0, 31), (30, 32), (93, 100), (99, 100)] {
        let openings = &BOUND.openings[usize::from(start) / 31..usize::from(end).div_ceil(31)];
        let openings: Vec<u8> = openings.iter().flat_map(Opening::to_bytes).collect();
        add(
            "kzg",
            format!("{start}-{end}"),
            &[&start.to_be_bytes(), &end.to_be_bytes(), &[1], commitment.as_bytes(), &openings],
        );
    }
    for (index, size) in [(0, 1), (1, 3), (6, ENTRIES), (4, 5)] {
        let certificate = LOG.certificate(index, size);
        add("certificate", format!("{index}-{size}"), &[&certificate.encode()]);
        let CosignedCheckpoint { signed, mut cosignatures } = certificate.checkpoint.clone();
        cosignatures.truncate(5);
        let checkpoint = CosignedCheckpoint { signed, cosignatures };
        let fewer = Certificate { checkpoint, ..certificate };
        add("certificate", format!("{index}-{size}-fewer"), &[&fewer.encode()]);
        add("checkpoint", format!("{size}"), &[&flat(LOG.checkpoint(size).unwrap())]);
        let (entry, sizes) =
            (LOG.entry(index).unwrap().encode(), [index.to_be_bytes(), size.to_be_bytes()].concat());
        add(
            "log",
            format!("inclusion-{index}-{size}"),
            &[&entry, &sizes, &hashes(&LOG.inclusion(index, size))],
        );
        add(
            "log",
            format!("consistency-{index}-{size}"),
            &[&entry, &sizes, &hashes(&LOG.consistency(index, size))],
        );
    }
    seeds
}

fn hashes(hashes: &[B256]) -> Vec<u8> {
    hashes.iter().flatten().copied().collect()
}

fn flat(cosigned: &CosignedCheckpoint) -> Vec<u8> {
    let checkpoint = &cosigned.signed.checkpoint;
    let mut flat = checkpoint.gateway.to_vec();
    flat.extend(checkpoint.epoch.to_be_bytes());
    flat.extend(checkpoint.size.to_be_bytes());
    flat.extend(checkpoint.root);
    flat.extend(checkpoint.timestamp.to_be_bytes());
    flat.extend(cosigned.signed.signature.as_bytes());
    flat.extend(cosigned.cosignatures.iter().flat_map(|signature| *signature.as_bytes()));
    flat
}
