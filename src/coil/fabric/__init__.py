"""coil-fabric: does on a ToR what its routing daemon cannot do by itself."""
