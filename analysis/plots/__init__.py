"""A study's pictures: drawn once with matplotlib for report, notebooks, TensorBoard and paper.

A function of a Study returns a Chart (_charts: several), or raises NothingToShow with the reason:

    ablation       ablation_chart        paired differences seed by seed, with intervals
    sensitivity    grid_chart            arms that differ in one number, paired with the baseline
                   sensitivity_chart     ranges of the searched parameters
    pretraining    pretraining_chart     spread of the seeds, and the gate
    importance     importance_chart      fANOVA, MDI and PED-ANOVA with resamples and chance
    slices         slices_chart          proposals along one parameter
    contours       contours_chart        proposals over two parameters
    parallel       parallel_chart        proposals across all parameters
    curves         curves_chart          the search's learning curves, stopped runs to where they stopped
                   arm_curves_chart      the arms' curves, paired with the baseline
    rungs          rungs_chart           who was stopped at which rung, against which threshold
    regret         regret_chart          gap to the best found, by trials and by slot-seconds
    selection_bias selection_bias_chart  what choosing the best of several adds
    timeline       timeline_charts       what two arms make of the same videos
    alignment      alignment_charts      how FSD and LCS align pairs of videos
    errors         errors_charts         what is wrong with detections, and what it costs

style holds what they share: Chart, colours, SVG and PNG.
"""
