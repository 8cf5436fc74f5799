export function noteStorages(): () => void;
