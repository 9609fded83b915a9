"""Products of a block-sparse matrix by register tiles, generated as LLVM IR with llvmlite."""
