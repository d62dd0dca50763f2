"""The wheel farm: builds, proves and serves riscv64 wheels on one's own boards."""
