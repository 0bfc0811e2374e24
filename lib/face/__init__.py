"""Where the face is, and what is cut out around it: MTCNN, the detection policy, crops."""
