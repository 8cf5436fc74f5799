// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Words: lists of postings for tests, packed the slow and obvious way
library Words {
    /// @return words The amounts of indices 0, 1, 2 … as Lanes words; empty words are left out.
    function pack(uint256[] memory amounts) internal pure returns (uint256[] memory words) {
        uint256 places = (amounts.length + 3) / 4;
        uint256[] memory all = new uint256[](places);
        uint256 used;
        for (uint256 place = 0; place < places; ++place) {
            uint256 word;
            for (uint256 lane = 0; lane < 4 && place * 4 + lane < amounts.length; ++lane) {
                word |= amounts[place * 4 + lane] << (lane * 60);
            }
            if (word != 0) all[used++] = word | (place << 240);
        }
        words = new uint256[](used);
        for (uint256 i = 0; i < used; ++i) words[i] = all[i];
    }

    /// @return words One amount of one index.
    function one(uint256 index, uint256 amount) internal pure returns (uint256[] memory words) {
        words = new uint256[](1);
        words[0] = ((index / 4) << 240) | (amount << ((index % 4) * 60));
    }

    function none() internal pure returns (uint256[] memory) {
        return new uint256[](0);
    }
}
