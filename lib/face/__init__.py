"""Where the face is and what is cut out around it: detector, policy, geometry, background."""
