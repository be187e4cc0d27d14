"""The web's door to mooring. In this version it is only the name: Jupyter Server needs no
extension to run mooring's kernels.
"""
