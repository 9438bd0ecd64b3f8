"""Deep radiomics: codeword histograms, grading, responsible codewords, robustness, ablation and the statistics behind them (Eq. 5-7)."""
