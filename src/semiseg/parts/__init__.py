"""What single methods are built of, apart so that a method's file reads like its algorithm.

`bank` and `pasting` are AEL's, `contrast` U2PL's, `correlation` CorrMatch's, `flaws` GCT's, `perturbations` CCT's,
`pixel_contrast` PC2Seg's; `channel_dropout` serves UniMatch and its successors.
"""
