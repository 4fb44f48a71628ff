//! The checksum of files and payloads: CRC-64 with the polynomial that David T. Jones found, reflected, from 0 and without
//! a final inversion. Worked out eight bytes at a time.

/// 0xad93d23594c935a9, its bits in reverse.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// `TABLES[n][byte]`: what a byte adds that is followed by `n` others.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u64, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut followers = 1;
    while followers < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[followers - 1][byte];
            tables[followers][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        followers += 1;
    }
    tables
}

/// The checksum of what has the checksum `crc`, followed by `bytes`. Of nothing it is 0.
pub fn crc64(crc: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let crc = words.iter().fold(crc, |crc, word| {
        let word = (crc ^ u64::from_le_bytes(*word)).to_le_bytes();
        (0..8).fold(0, |sum, place| sum ^ TABLES[7 - place][usize::from(word[place])])
    });
    rest.iter().fold(crc, |crc, byte| crc >> 8 ^ TABLES[0][usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        assert_eq!(crc64(0, b""), 0);
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn however_it_is_cut_the_sum_is_one() {
        let bytes: Vec<u8> = (0..1000u32).map(|n| ((n * n) >> 3) as u8).collect();
        let by_bits = bytes.iter().fold(0u64, |crc, byte| {
            (0..8).fold(crc ^ u64::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 })
        });
        assert_eq!(crc64(0, &bytes), by_bits);
        for cut in [1, 7, 8, 9, 500, 999] {
            assert_eq!(crc64(crc64(0, &bytes[..cut]), &bytes[cut..]), by_bits, "{cut}");
        }
    }
}
