export function openTour() {}
