//! SHA3-256 for `hmac`, over the assembly of `keccak-asm`: four to five times as fast as `sha3` in a small binary, since
//! it is as fast whatever the compiler optimises for.
//!
//! Given block by block, as here, `hmac` keeps both of its halves keyed, which saves a permutation for each body.

use hmac::digest::block_api::{
    Block, BlockSizeUser, Buffer, BufferKindUser, Eager, FixedOutputCore, OutputSizeUser, UpdateCore,
};
use hmac::digest::consts::{U32, U136};
use hmac::digest::{HashMarker, Output};
use keccak_asm::digest::{FixedOutput, Update}; // of a `digest` that is one version behind

/// The hash's state between two blocks.
#[derive(Clone, Default)]
pub(super) struct Sha3_256Core(keccak_asm::Sha3_256);

impl HashMarker for Sha3_256Core {}

impl BlockSizeUser for Sha3_256Core {
    type BlockSize = U136;
}

impl BufferKindUser for Sha3_256Core {
    type BufferKind = Eager;
}

impl OutputSizeUser for Sha3_256Core {
    type OutputSize = U32;
}

impl UpdateCore for Sha3_256Core {
    fn update_blocks(&mut self, blocks: &[Block<Self>]) {
        for block in blocks {
            self.0.update(block);
        }
    }
}

impl FixedOutputCore for Sha3_256Core {
    fn finalize_fixed_core(&mut self, buffer: &mut Buffer<Self>, out: &mut Output<Self>) {
        self.0.update(buffer.get_data());
        let digest: [u8; 32] = std::mem::take(&mut self.0).finalize_fixed().into();
        out.copy_from_slice(&digest);
    }
}

hmac::digest::buffer_fixed!(
    #[derive(Clone)]
    pub(super) struct Sha3_256(Sha3_256Core);
    impl: BaseFixedTraits Default HashMarker;
);

#[cfg(test)]
mod tests {
    use hmac::digest::Digest;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_assembly_agrees_with_the_hash_in_rust(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
        ) {
            let (mut ours, mut theirs) = (Sha3_256::default(), sha3::Sha3_256::default());
            for part in parts {
                Digest::update(&mut ours, &part);
                Digest::update(&mut theirs, &part);
            }
            prop_assert_eq!(ours.finalize(), theirs.finalize());
        }
    }
}
